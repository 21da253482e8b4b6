"""Views: what traces and results look like to people and, as JSON, to programs.

Every view takes events or results and gives values and text. Must not know how a machine runs.
"""
