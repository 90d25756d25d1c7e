"""What every other package may use: validation, files, state dicts, spelling hints, CPU settings, a safe unpickler."""
