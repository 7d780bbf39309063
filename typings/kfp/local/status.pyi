import enum

class Status(enum.Enum):
    SUCCESS = "SUCCESS"
    FAILURE = "FAILURE"
