"""Several backends for `language.chat`: who is asked, who goes on, what is known of each; see docs/handoff.md."""
