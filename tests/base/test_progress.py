"""Progress over all phases of a command: fractions, jumps, and the time left."""

import pytest

from tlkit.base.story import Phase, Progress, clock


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.4, "0 s"), (59.4, "59 s"), (60, "1:00 min"), (125, "2:05 min"), (4200, "1:10 h")]
)
def test_times_are_said_as_people_say_them(seconds, text):
    assert clock(seconds) == text


class Clock:
    """A clock that is set by hand."""

    now = 100.0

    def __call__(self):
        return self.now


@pytest.fixture
def time():
    return Clock()


@pytest.fixture
def progress(time):
    found = Progress(time)
    found.expect(Phase("reading", 10.0), Phase("extracting", 30.0), Phase("training", 50.0), Phase("writing", 10.0))
    return found


def test_nothing_is_known_before_anything_has_begun(progress):
    assert progress.fraction is None and progress.line == ""


def test_a_counted_phase_goes_by_its_count_and_its_pace(progress, time):
    count = progress.count("reading", 20)
    time.now += 5.0
    count.add("x")
    assert progress.left == pytest.approx(9.5 + 90.0)  # as expected: the first tells little about the others
    for _ in range(9):
        time.now += 1.0
        count.add("x")
    assert progress.fraction == pytest.approx(0.05)  # half of 10 of 100 seconds
    assert progress.left == pytest.approx(10.0 + 90.0)
    time.now += 3.0  # nothing is counted meanwhile, but the time left still decreases
    assert progress.left == pytest.approx(7.0 + 90.0)
    assert progress.line == "5 %, 1:37 min left: reading, 10 of 20 (0.6/s)"


def test_an_uncounted_phase_goes_by_the_clock_and_never_to_its_end(progress, time):
    progress.begin("training")
    assert progress.fraction == pytest.approx(0.4)  # reading and extracting were skipped
    time.now += 25.0
    assert progress.fraction == pytest.approx(0.65) and progress.left == pytest.approx(35.0)
    time.now += 1000.0
    assert progress.fraction < 0.9 and progress.left == pytest.approx(10.0)


def test_a_phase_that_will_be_counted_does_not_go_by_the_clock(progress, time):
    progress.begin("training")
    progress.reach(0, 40)
    time.now += 45.0
    assert progress.fraction == pytest.approx(0.4) and progress.left == pytest.approx(15.0)


def test_what_is_stored_is_passed_over_in_a_jump(progress, time):
    progress.begin("reading")
    time.now += 10.0
    progress.begin("writing")
    assert progress.fraction == pytest.approx(0.9) and progress.left == pytest.approx(10.0)


def test_a_phase_that_is_over_does_not_begin_again(progress):
    progress.begin("training")
    progress.begin("reading")
    progress.count("extracting", 5).add("x")
    assert progress.name == "training" and progress.fraction == pytest.approx(0.4)
    assert "training, extracting 1 of 5" in progress.line


def test_the_plan_changes_the_shares_and_nothing_goes_back(progress, time):
    progress.begin("reading")
    time.now += 10.0
    progress.begin("extracting")
    before = progress.fraction
    progress.expect(Phase("reading", 10.0), Phase("extracting", 500.0), Phase("training", 490.0))
    assert progress.name == "extracting" and progress.fraction == before == pytest.approx(0.1)
    assert progress.left == pytest.approx(990.0)
    progress.reach(1, 2)
    assert progress.fraction == pytest.approx(0.26)


def test_seconds_for_each_image_count_as_soon_as_images_are_counted(time):
    progress = Progress(time)
    progress.expect(Phase("reading", 0.0, 0.1), Phase("looking", 10.0, 0.9, by="extracting"))
    progress.count("reading", 10)
    assert progress.left == pytest.approx(1.0 + 19.0)
    progress.count("extracting", 10).add("x")
    assert progress.name == "looking" and progress.fraction == pytest.approx((0.0 + 1.9) / 19.0)


def test_tracks_that_nobody_expected_are_each_a_whole(time):
    progress = Progress(time)
    progress.count("fetching a, bytes", 4).add("xx")
    assert progress.fraction == pytest.approx(0.5)
    progress.count("fetching b, bytes", 4)
    assert progress.fraction == 0.0
    count = progress.count("unpacking", None)
    time.now += 2.0
    count.add("abc")
    assert progress.fraction is None and progress.line == "unpacking, 3 (1.5/s)"


def test_another_command_begins_at_nothing(progress):
    progress.begin("writing")
    progress.expect()
    progress.expect(Phase("reading", 1.0), Phase("writing", 1.0))
    assert progress.fraction is None
    progress.begin("reading")
    assert progress.fraction == 0.0
