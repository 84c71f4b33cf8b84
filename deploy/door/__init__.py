"""The front door of every HTTP server of ours: who may connect, how long a request may take, what a refusal looks like.

No server goes round it (`tests/deploy/door` holds that). What a server serves is its own; nothing of it is here.
"""
