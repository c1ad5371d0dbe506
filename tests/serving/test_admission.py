"""A burst may wait; where more come than can be answered, the queue is kept short until fewer come."""

from sft_magics.serving.scheduling.admission import MAX_BATCH, MAX_WAITING, Crowd


def _crowded() -> Crowd:
    crowd = Crowd()
    for now in (0.0, 0.5, 1.0):
        assert not crowd.crowded
        crowd.taken(1000, 1000, now)
    assert crowd.crowded
    return crowd


def test_a_burst_may_wait() -> None:
    crowd = Crowd()
    for now, left in ((0.0, 4000), (0.4, 2000), (0.8, 200), (1.2, 100), (1.6, 4000), (2.5, 300)):
        crowd.taken(left, left, now)
        assert crowd.admits(1, left, MAX_WAITING - 1, now)
        assert not crowd.admits(1, left, MAX_WAITING, now)


def test_a_queue_that_stands_is_kept_short() -> None:
    crowd = _crowded()
    assert crowd.admits(1, MAX_BATCH - 1, MAX_BATCH - 1, 1.1)
    assert not crowd.admits(1, MAX_BATCH, MAX_BATCH, 1.1)
    assert crowd.admits(10_000, 0, 0, 1.1), "one may always wait"


def test_it_is_so_until_nobody_had_to_be_refused_for_a_while() -> None:
    crowd = _crowded()
    for now in (1.5, 2.2, 3.1):
        assert not crowd.admits(1, MAX_BATCH, MAX_BATCH, now)
        crowd.taken(0, 0, now + 0.1)
        assert crowd.crowded
    crowd.taken(0, 0, 4.2)
    assert not crowd.crowded, "however large its batches are"
    assert crowd.admits(1, 1000, 1000, 4.3)


def test_files_that_are_read_beside_each_other_are_no_crowd() -> None:
    crowd = Crowd()
    for turn in range(100):  # three files, two connections each
        crowd.taken(5, 5 * 128, turn * 0.3)
        assert not crowd.crowded
    crowd = _crowded()
    assert crowd.admits(128, 5, 5 * 128, 1.1), "nor are they refused in one"
