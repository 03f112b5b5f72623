"""How long `apply_` takes on a state dict of torch, beside `index_put_` of the same elements: python benches/python.py [GIGABYTES [SHARE...]]

Both write the same values to the same elements, on as many threads; `index_put_` gets its indices and values ready made. What `apply_`
does besides: it checks the base, decodes the patch, computes the values, and keeps those from before. Seconds are those of the processor,
over all threads, so that other work on the machine counts less.
"""

import statistics
import sys
import time

import torch

import lcepatch

TENSORS = 16


def seconds(work, undo, rounds=3):
    """The median of several times, each taken back."""
    taken = []
    for _ in range(rounds):
        start = time.process_time()
        token = work()
        taken.append(time.process_time() - start)
        undo(token)
    return statistics.median(taken)


def main():
    gigabytes = float(sys.argv[1]) if len(sys.argv) > 1 else 1.0
    shares = [float(share) for share in sys.argv[2:]] or [0.001, 0.005, 0.05, 0.3]
    n = int(gigabytes * 1e9 / 2 / TENSORS)
    torch.manual_seed(0)
    state = {f"layer.{at}.weight": torch.randn(n).bfloat16() for at in range(TENSORS)}
    print(f"{gigabytes} GB of bfloat16 in {TENSORS} tensors, {torch.get_num_threads()} threads")
    for share in shares:
        chosen = {name: (torch.rand(n) < share).nonzero().reshape(-1) for name in state}
        values = {name: torch.randn(len(at)).bfloat16() for name, at in chosen.items()}
        reference = {name: tensor.clone() for name, tensor in state.items()}
        for name, at in chosen.items():
            reference[name][at] = values[name]
        patch = lcepatch.diff(state, reference)
        del reference

        def put():
            before = {name: state[name][at] for name, at in chosen.items()}
            start = time.process_time()
            for name, at in chosen.items():
                state[name].index_put_((at,), values[name])
            return time.process_time() - start, before

        def put_back(token):
            for name, at in chosen.items():
                state[name].index_put_((at,), token[1][name])

        puts = []
        for _ in range(3):
            token = put()
            puts.append(token[0])
            put_back(token)
        own = statistics.median(puts)
        line = f"{share:7.1%} {patch.selected:11,} elements  index_put_ {own:.3f} s"
        for check in ("quick", "full"):
            taken = seconds(lambda: patch.apply_(state, 1, check=check), lambda undo: undo())
            line += f"  {check} {taken:.3f} s = {taken / own:.1f} x"
        print(line, flush=True)


if __name__ == "__main__":
    main()
