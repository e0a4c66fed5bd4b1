"""What gold labels say of a run's judge: its error, and the rates corrected for it."""

from emeval.calibrating.calibration import Calibration, calibrate

__all__ = ["Calibration", "calibrate"]
