"""Asking other servers: addresses, keys, proxies and one client with limits, the same for all that we ask.

What is asked, and what an answer means, is not known here.
"""

from thalweg.models.http.address import Address
from thalweg.models.http.client import HttpAnswer, HttpClient
from thalweg.models.http.errors import HttpError, HttpErrorKind, quoted
from thalweg.models.http.keys import key_for

__all__ = ["Address", "HttpAnswer", "HttpClient", "HttpError", "HttpErrorKind", "key_for", "quoted"]
