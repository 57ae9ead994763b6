"""Settings that all tests share."""

import hypothesis

# How long an example takes says nothing about whether it is right, and this machine may be busy.
hypothesis.settings.register_profile("no_deadline", deadline=None)
hypothesis.settings.load_profile("no_deadline")
