"""The evaluation room: was the tuning worth it?"""
