"""A burst may wait; where more come than can be answered, the queue is kept short until fewer come."""

from sft_magics.serving.crowd import MAX_BATCH, MAX_WAITING, Crowd


def test_a_burst_may_wait() -> None:
    crowd = Crowd()
    for now, left in ((0.0, 4000), (0.4, 2000), (0.8, 200), (1.2, 100), (1.6, 4000), (2.5, 300)):
        crowd.taken(MAX_BATCH, left, now)
        assert crowd.most == MAX_WAITING


def test_a_queue_that_stands_is_kept_short_until_fewer_come() -> None:
    crowd = Crowd()
    for now in (0.0, 0.5, 0.99):
        crowd.taken(MAX_BATCH, 1000, now)
        assert not crowd.crowded
    crowd.taken(MAX_BATCH, 1000, 1.0)
    assert crowd.most == MAX_BATCH
    for now, count, left in ((1.1, 64, 900), (1.2, 64, 0), (1.3, 33, 0), (1.4, 20, 40)):
        crowd.taken(count, left, now)
        assert crowd.crowded
    crowd.taken(32, 0, 1.5)
    assert crowd.most == MAX_WAITING
    crowd.taken(64, 1000, 1.6)
    assert not crowd.crowded, "and patient again"


def test_a_file_that_is_read_beside_others_is_no_crowd() -> None:
    crowd = Crowd()
    for turn in range(100):
        crowd.taken(128, 128, turn * 0.3)
        assert not crowd.crowded
