"""Search: many trainings of one recipe with other values, judged on the validation rows."""
