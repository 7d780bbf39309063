# Every action a person takes. `make` alone lists them.
