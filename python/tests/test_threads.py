"""Edits by several threads, and edits that are interrupted at any step."""

import os
import subprocess
import sys
import threading
import time

import numpy as np
import pytest

import lcepatch
from conftest import bits, copy


def at_once(work, count=8):
    """Does some work in several threads, which begin together, and returns what they raise."""
    start, raised = threading.Barrier(count), []

    def one():
        start.wait()
        try:
            work()
        except BaseException as error:
            raised.append(error)

    threads = [threading.Thread(target=one, daemon=True) for _ in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
        assert not thread.is_alive(), "threads wait for each other"
    return raised


def strided(arrays):
    """Arrays like these that are not contiguous, and are written by position."""
    return {name: np.repeat(array, 2, axis=0)[::2] for name, array in arrays.items()}


@pytest.mark.parametrize("form", [copy, strided])
def test_threads_that_undo_the_same_edit_undo_it_once(make, form):
    base, reference = make(dtypes="f4 f2 f8 f4 f4")
    patch = lcepatch.diff(base, reference)
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    try:
        for _ in range(30):
            mine = form(base)
            undo = patch.apply_(mine, -2)
            assert at_once(lambda undo=undo: (undo.changed(), repr(undo), undo(), undo.active)) == []
            assert bits(mine) == bits(base) and not undo.active
    finally:
        sys.setswitchinterval(interval)


@pytest.mark.parametrize("form", [copy, strided])
@pytest.mark.parametrize("options", [{"alpha": 1}, {"alpha": -2, "check": "quick"}], ids=str)
def test_threads_that_edit_the_same_arrays_take_turns(make, form, options):
    base, reference = make(n=20_000, dtypes="f4 f2 f8")
    patch = lcepatch.diff(base, reference)
    mine, expected = form(base), copy(base)
    patch.apply_(expected, **options)
    done, wrong = [], []

    def work():
        for _ in range(6):
            try:
                undo = patch.apply_(mine, **options)
            except lcepatch.Refused as error:
                # Another thread has edited them. At alpha 1, they are then known to be the result.
                assert error.kind == ("base.already-applied" if options["alpha"] == 1 else "base.differs")
                continue
            # No other thread edits them, nor has a part of its edit taken back.
            if bits(mine) != bits(expected):
                wrong.append(undo)
            undo()
            done.append(undo)

    assert at_once(work) == []
    assert done and not wrong and bits(mine) == bits(base)


def in_a_fork(work):
    """Whether work in a forked process ends in time, and well."""
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        child = os.fork()
    if child == 0:
        try:
            os._exit(0 if work() else 1)
        finally:
            os._exit(2)
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            return status == 0
        time.sleep(0.02)
    os.kill(child, 9)
    os.waitpid(child, 0)
    return False


def test_an_edit_waits_for_no_thread_of_a_parent_process(make):
    """The other thread has its turn when the process is forked."""
    if not hasattr(os, "fork"):
        pytest.skip("there is no fork")
    base, reference = make()
    patch = lcepatch.diff(base, reference)
    inside, leave = threading.Event(), threading.Event()

    class Slow(dict):
        def __getitem__(self, name):
            inside.set()
            leave.wait(60)
            return super().__getitem__(name)

    def edit():
        mine = copy(base)
        patch.apply_(mine)()
        return bits(mine) == bits(base)

    thread = threading.Thread(target=lambda: patch.apply_(Slow(copy(base))))
    thread.start()
    assert inside.wait(60)
    ended = in_a_fork(edit)
    leave.set()
    thread.join()
    assert ended


def test_an_undo_waits_for_no_thread_of_a_parent_process():
    """The other thread looks for changes, which takes a while, when the process is forked."""
    if not hasattr(os, "fork"):
        pytest.skip("there is no fork")
    base = {"w": np.zeros(30_000_000, "f4")}
    patch = lcepatch.diff(base, {"w": np.ones(30_000_000, "f4")})
    undo = patch.apply_(base)
    inside, leave = threading.Event(), threading.Event()

    def look():
        while not leave.is_set():
            inside.set()
            undo.changed()

    thread = threading.Thread(target=look)
    thread.start()
    assert inside.wait(60)
    ended = []
    for _ in range(5):
        time.sleep(0.01)
        ended.append(in_a_fork(lambda: undo() or not undo.active and not base["w"].any()))
    leave.set()
    thread.join()
    assert all(ended) and base["w"].all()
    undo()
    assert not base["w"].any()


def interrupted_at(step, work):
    """Does some work, and raises the exception of Ctrl-C at one of the lines of the module that it comes by, as Ctrl-C may. Returns
    whether there were as many. The work may end with an error of its own, and then with the interruption all the same."""
    left = step

    def trace(frame, event, _):
        nonlocal left
        if not frame.f_code.co_filename.startswith(os.path.dirname(lcepatch.__file__)):
            return None
        # The lines that catch an interruption cannot catch one that comes at themselves.
        if event == "line" and frame.f_code.co_name not in ("__enter__", "__exit__", "_restore"):
            left -= 1
            if left == 0:
                sys.settrace(None)
                raise KeyboardInterrupt
        return trace

    sys.settrace(trace)
    try:
        work()
    except KeyboardInterrupt:
        return True
    except lcepatch.Error:
        assert left > 0, f"an interruption at line {step} is lost"
    finally:
        sys.settrace(None)
    return False


def test_an_interruption_at_any_line_leaves_all_arrays_edited_or_none(make):
    base, reference = make(n=20, dtypes="f4")
    base["strided"], reference["strided"] = base["layer.0.weight"], reference["layer.0.weight"]
    patch = lcepatch.diff(base, reference)

    def arrays():
        return copy(base) | strided({"strided": base["strided"]})

    for step in range(1, 10_000):
        mine = arrays()
        if not interrupted_at(step, lambda mine=mine: patch.apply_(mine, -2)):
            break
        assert bits(mine) == bits(base), f"at line {step}"
    assert 100 < step < 10_000
    for step in range(1, 10_000):
        mine = arrays()
        undo = patch.apply_(mine, -2)
        if not interrupted_at(step, undo):
            break
        # Either it is not begun, or it is done.
        assert undo.changed() == []
        undo()
        assert bits(mine) == bits(base), f"at line {step} of the undo"
    assert 20 < step < 10_000
    for step in range(1, 10_000):
        mine = arrays()

        def block(mine=mine):
            with patch.apply_(mine, -2):
                pass

        if not interrupted_at(step, block):
            break
        assert bits(mine) == bits(base), f"at line {step} of the block"
    assert 100 < step < 10_000


def test_an_interruption_of_an_undo_that_is_refused_is_not_lost(make):
    base, reference = make(n=20, dtypes="f4")
    patch = lcepatch.diff(base, reference)
    for step in range(1, 10_000):
        mine = copy(base)
        undo = patch.apply_(mine)
        mine["layer.0.weight"].flags.writeable = False
        if not interrupted_at(step, lambda undo=undo: undo(force=True)):
            break
        assert undo.active
    assert 10 < step < 10_000


@pytest.mark.parametrize("form", [copy, strided])
def test_a_variable_that_is_wrong_by_then_keeps_no_forked_process_from_an_undo(make, form, monkeypatch):
    if not hasattr(os, "fork"):
        pytest.skip("there is no fork")
    base, reference = make()
    mine = form(base)
    undo = lcepatch.diff(base, reference).apply_(mine)
    for wrong in ("many", "", "0"):
        monkeypatch.setenv("LCEPATCH_THREADS", wrong)
        assert in_a_fork(lambda: undo() or not undo.active and bits(mine) == bits(base)), wrong
    assert undo.active


@pytest.mark.skipif(not os.path.isdir("/proc/self/task"), reason="threads are counted as Linux does")
def test_the_number_of_threads_is_that_of_the_processors_or_of_the_variable():
    code = (
        "import os, time, lcepatch, numpy as np\n"
        "def count():\n"
        # A thread that has ended is there for another moment.
        "    return min(time.sleep(0.01) or len(os.listdir('/proc/self/task')) for _ in range(20))\n"
        "def work():\n"
        "    lcepatch.diff({'w': np.zeros(9, 'f4')}, {'w': np.ones(9, 'f4')})\n"
        "    return count()\n"
        "before = count()\n"
        "here = work() - before\n"
        "os.environ['LCEPATCH_THREADS'] = '3'\n"
        "again = work() - before\n"
        "if os.fork() == 0: os._exit(work() - 1)\n"
        "print(len(os.sched_getaffinity(0)), here, again, os.waitstatus_to_exitcode(os.wait()[1]))\n"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "OPENBLAS_NUM_THREADS": "1"}
    counted = []
    for variables in ({}, {"RAYON_NUM_THREADS": "77"}, {"LCEPATCH_THREADS": "5"}):
        ended = subprocess.run([sys.executable, "-c", code], env=environment | variables, capture_output=True, text=True, check=True)
        processors, *counts = map(int, ended.stdout.split())
        assert counts == counts[:1] * 3, variables
        counted.append(counts[0])
    # A container may be given less than all processors.
    assert counted == [counted[0], counted[0], 5] and counted[0] <= processors


@pytest.mark.parametrize("wanted", ["", "0", "1025", "many"])
def test_a_number_of_threads_that_the_command_refuses_is_refused(wanted):
    code = (
        "import lcepatch, numpy as np\n"
        "w = {'w': np.zeros(9, 'f4')}\n"
        "try: lcepatch.diff(w, {'w': np.ones(9, 'f4')})\n"
        "except lcepatch.UsageError as error: print(error, error.help)\n"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "LCEPATCH_THREADS": wanted}
    ended = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert f'LCEPATCH_THREADS is "{wanted}"' in ended.stdout and "from 1 to 1024" in ended.stdout


def test_an_interruption_in_a_block_whose_undo_is_refused_is_not_lost():
    base = {"w": np.zeros(100, "f4")}
    patch = lcepatch.diff(base, {"w": np.ones(100, "f4")})
    with pytest.raises(KeyboardInterrupt) as raised:
        with patch.apply_(base) as undo:
            base["w"].flags.writeable = False
            raise KeyboardInterrupt
    assert "'w' is read-only now" in raised.value.__notes__[0] and undo.active
    base["w"].flags.writeable = True
    undo()
    assert not base["w"].any()


def test_a_forked_process_decodes_by_itself():
    """A block that is large for its bytes is decoded on a thread that a forked process has not."""
    if not hasattr(os, "fork"):
        pytest.skip("there is no fork")
    n = 2_000_000
    patch = lcepatch.diff({"w": np.zeros(n, "f4")}, {"w": np.ones(n, "f4")}, portable=True)
    assert patch.check().decoded
    assert in_a_fork(lambda: patch.check().decoded)
