"""How long `apply_` takes on a state dict of torch, beside `index_put_` of the same elements: python benches/python.py [GIGABYTES [SHARE...]]

Both write to the same elements, on as many threads; `index_put_` gets its indices and values ready made. What `apply_` does besides: it
checks the base, decodes the patch, computes the values, compares the result with the patch's digest (at alpha 1, fully checked), and
keeps what leads back. Seconds are those of the processor, over all threads, so that other work on the machine counts less; each is the
least of several, which alternate.
"""

import itertools
import sys
import time

import torch

import lcepatch

TENSORS = 16
ROUNDS = 5
WAYS = list(itertools.product((1, -2), ("quick", "full")))
"""Alphas, and how the base is checked."""


def timed(work, undo):
    """The seconds that some work takes, which is taken back afterwards."""
    start = time.process_time()
    token = work()
    taken = time.process_time() - start
    undo(token)
    return taken


def main():
    gigabytes = float(sys.argv[1]) if len(sys.argv) > 1 else 1.0
    shares = [float(share) for share in sys.argv[2:]] or [0.001, 0.005, 0.05, 0.3]
    n = int(gigabytes * 1e9 / 2 / TENSORS)
    torch.manual_seed(0)
    state = {f"layer.{at}.weight": torch.randn(n).bfloat16() for at in range(TENSORS)}
    print(f"{gigabytes} GB of bfloat16 in {TENSORS} tensors, {torch.get_num_threads()} threads; CPU seconds, and times index_put_")
    for share in shares:
        chosen = {name: (torch.rand(n) < share).nonzero().reshape(-1) for name in state}
        before = {name: state[name][at] for name, at in chosen.items()}
        values = {name: torch.randn(len(at)).bfloat16() for name, at in chosen.items()}
        reference = {name: tensor.clone() for name, tensor in state.items()}
        for name, at in chosen.items():
            reference[name][at] = values[name]
        patch = lcepatch.diff(state, reference)
        del reference

        def put(written):
            for name, at in chosen.items():
                state[name].index_put_((at,), written[name])

        puts, edits = [], {way: [] for way in WAYS}
        for _ in range(ROUNDS):
            puts.append(timed(lambda: put(values), lambda _: put(before)))
            for alpha, check in WAYS:
                edit = timed(lambda: patch.apply_(state, alpha, check=check), lambda undo: undo())
                edits[alpha, check].append(edit)
        own = min(puts)
        line = f"{share:7.1%} {patch.selected:11,} elements  index_put_ {own:.3f}"
        for (alpha, check), taken in edits.items():
            line += f"  alpha {alpha} {check} {min(taken):.3f} = {min(taken) / own:.1f} x"
        print(line, flush=True)


if __name__ == "__main__":
    main()
