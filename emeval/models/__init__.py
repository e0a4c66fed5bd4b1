"""The models that are asked: their names, whether they can be reached, the embedded one."""
