"""A stand-in for the sensor board of the lesson: its light sensor and its LED are files."""


class LightSensor:
    """A light sensor; its value is the number in a file."""

    def __init__(self, path):
        self._path = path

    @property
    def light(self):
        with open(self._path) as file:
            return int(file.read())


class Led:
    """An LED; a file has 1 while it is on, and 0 while it is off."""

    def __init__(self, path):
        self._path = path
        self.off()

    def on(self):
        self._write("1")

    def off(self):
        self._write("0")

    def _write(self, state):
        with open(self._path, "w") as file:
            file.write(state)
