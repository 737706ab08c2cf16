"""The search for serving parameters: a space, what was recorded of it, what to try next, and the verdict."""
