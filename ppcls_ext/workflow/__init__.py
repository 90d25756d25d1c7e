"""What takes a user from pictures to a deployed model: several steps of the rooms below, one after the other."""
