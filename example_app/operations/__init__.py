"""Operations: what lies in the queues, what failed, and whether a worker is there."""
