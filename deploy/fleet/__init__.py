"""Nodes at the edge and their hub: enrolment, what nodes run, what they send, and the page that shows it."""
