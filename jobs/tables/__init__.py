"""Tables of many trainings: what each is made of, brought there, measured and shown."""
