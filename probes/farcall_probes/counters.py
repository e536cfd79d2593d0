"""Names of the kernel side's counters, as status and doctor show them.

Losses end in `_lost`. Kept apart from events.py so that a page that shows counters needs no numpy layout. Counters only grow.
"""

# In the order of enum fc_counter (a test compares).
KERNEL_COUNTERS = (
    "kernel_events",  # system calls on sockets that were looked at
    "kernel_small",  # records submitted
    "kernel_large",
    "kernel_head",
    "kernel_dns",
    "kernel_small_lost",  # ring full
    "kernel_large_lost",
    "kernel_head_lost",
    "kernel_dns_lost",
    "kernel_resolved",  # walks from a descriptor that found a TCP or UDP socket
    "kernel_not_socket",
    "kernel_connections_lost",  # no room for a connection's state
    "kernel_read_fault",  # user memory could not be read
    "kernel_orphan",  # response bytes without a request seen
    "kernel_overwritten",  # a request replaced before its answer
    "kernel_policy",  # not recorded by policy: own, excluded or foreign processes
    "kernel_health",  # kube-probe/ requests, counted and not stored
    "kernel_identity_torn",  # two sights of a connection's identity disagreed
    "kernel_head_cut",  # request heads in more calls than parts are shipped for
    "kernel_no_response",  # closed before the first response byte
    "kernel_segment",  # records submitted that are one message of a protocol that answers out of order
    "kernel_segment_lost",  # ring full
    "kernel_segment_beyond_lost",  # messages of one call past the bound
    "kernel_segment_resync_lost",  # a direction's place in the stream was lost, and messages until it is found
    "kernel_segment_given_up",  # connections that made no sense for long and go on as plain TCP
    "kernel_unconnected",  # connects that failed
    "kernel_connect_untold",  # connects given up within a second, or over IPv6 where there is none
    "kernel_timed_out",  # requests whose answer was waited for too long
    "kernel_tls",  # pieces of plaintext that TLS libraries wrote or read
    "kernel_tls_unowned",  # the same, whose connection could not be told
    "kernel_tls_lost",  # the same, no workspace was free
    "kernel_capped_lost",  # beyond what one container may have
    "kernel_sampled_dropped",  # left out so that the agent stays below its CPU ceiling
    "kernel_rest",  # rests of responses that were told
    "kernel_opened_dropped",  # openings of connections forgotten for others'
)
