"""What both ends of a gRPC edge keep to."""

from __future__ import annotations

LARGEST_MESSAGE = 64 << 20
LARGEST_RECORD = LARGEST_MESSAGE - 1024
SIGNALS = 1024
GREETING_S = 5.0
OPTIONS = [
    ("grpc.max_receive_message_length", LARGEST_MESSAGE),
    ("grpc.max_send_message_length", LARGEST_MESSAGE),
    ("grpc.use_local_subchannel_pool", 1),
    ("grpc.server_handshake_timeout_ms", 5_000),
    ("grpc.keepalive_time_ms", 5_000),
    ("grpc.keepalive_timeout_ms", 3_000),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.max_pings_without_data", 0),
    ("grpc.http2.min_ping_interval_without_data_ms", 2_000),
    ("grpc.so_reuseport", 0),
    ("grpc.default_compression_algorithm", 0),
]
