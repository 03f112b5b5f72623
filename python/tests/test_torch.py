"""Edits of tensors of torch and models of transformers. Runs where both are installed: ``pytest -m heavy``."""

import copy
import gc
import shutil
from pathlib import Path

import numpy as np
import pytest

import lcepatch
from conftest import raw, vectors

pytestmark = pytest.mark.heavy
torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")
from safetensors.torch import load_file, save_file  # noqa: E402

from lcepatch.transformers import PatchCheckpoints, apply_patch, restore, tensors  # noqa: E402

DTYPES = [torch.float32, torch.bfloat16, torch.float16]


def bits(state):
    return {name: bytes(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).tolist()) for name, tensor in state.items()}


def configuration(kind):
    small = {"vocab_size": 99, "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4}
    if kind == "llama":
        return transformers.LlamaConfig(**small, num_key_value_heads=2, tie_word_embeddings=True)
    if kind == "gpt2":
        return transformers.GPT2Config(vocab_size=99, n_positions=64, n_embd=32, n_layer=2, n_head=4)
    return transformers.BertConfig(**small)


def model(kind, seed, dtype=torch.float32):
    torch.manual_seed(seed)
    classes = {
        "llama": transformers.LlamaForCausalLM,
        "gpt2": transformers.GPT2LMHeadModel,
        "bert": transformers.BertForMaskedLM,
    }
    return classes[kind](configuration(kind)).to(dtype).eval()


@pytest.fixture(params=["llama", "gpt2", "bert"])
def kind(request):
    return request.param


def saved(folder, kind, dtype, density=0.05):
    """A model, another one, and the patch between them."""
    for name, seed in (("a", 1), ("b", 2)):
        model(kind, seed, dtype).save_pretrained(folder / name)
    patch = lcepatch.diff(folder / "a", folder / "b", density=density, params="all", recommended_alpha=-2)
    patch.save(folder / "p.lcepatch")
    return folder / "a", folder / "p.lcepatch"


def load(path, kind):
    classes = {"llama": "LlamaForCausalLM", "gpt2": "GPT2LMHeadModel", "bert": "BertForMaskedLM"}
    return getattr(transformers, classes[kind]).from_pretrained(path, dtype="auto").eval()


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_a_loaded_model_becomes_the_file_that_the_command_writes(tmp_path, kind, dtype):
    base, patch = saved(tmp_path, kind, dtype)
    mine = load(base, kind)
    before = bits(mine.state_dict())
    for alpha in (None, 0.5, 1, 0):
        lcepatch.apply(base, patch, tmp_path / f"edited-{alpha}", alpha)
        expected = load(tmp_path / f"edited-{alpha}", kind)
        with apply_patch(mine, str(patch), alpha) as undo:
            assert bits(mine.state_dict()) == bits(expected.state_dict())
            assert alpha == 0 or bits(mine.state_dict()) != before
            ids = torch.arange(12)[None]
            assert torch.equal(mine(ids).logits, expected(ids).logits)
        assert bits(mine.state_dict()) == before and not undo.active
    with pytest.raises(ZeroDivisionError), apply_patch(mine, patch):
        1 / 0
    assert bits(mine.state_dict()) == before


def test_names_of_wrappers_are_understood(tmp_path):
    base, patch = saved(tmp_path, "llama", torch.bfloat16)
    plain = load(base, "llama")
    apply_patch(plain, patch)
    expected = list(bits(plain.state_dict()).values())

    class Wrapper(torch.nn.Module):
        def __init__(self, module):
            super().__init__()
            self.module = module

    for wrap in (torch.compile, Wrapper, lambda inner: Wrapper(torch.compile(inner)), lambda inner: torch.compile(Wrapper(inner))):
        wrapped = wrap(load(base, "llama"))
        assert any(name.startswith(("_orig_mod.", "module.")) for name in wrapped.state_dict())
        with apply_patch(wrapped, patch):
            assert list(bits(wrapped.state_dict()).values()) == expected
    headless = transformers.LlamaModel.from_pretrained(base, dtype="auto")
    with apply_patch(headless, patch):
        state = {f"model.{name}": value for name, value in bits(headless.state_dict()).items()}
        assert state.items() <= bits(plain.state_dict()).items()


def test_names_that_two_tensors_could_have_are_of_neither():
    class Both(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.module = torch.nn.Linear(2, 2, bias=False)
            self._orig_mod = torch.nn.Linear(2, 2, bias=False)

    assert set(tensors(Both())) == {"module.weight", "_orig_mod.weight"}


def test_tied_weights_are_edited_once_and_gradients_stay_possible(tmp_path):
    base, patch = saved(tmp_path, "llama", torch.float32)
    mine = load(base, "llama")
    assert mine.lm_head.weight is mine.model.embed_tokens.weight
    with apply_patch(mine, patch) as undo:
        assert "model.embed_tokens.weight" in undo.edited and "lm_head.weight" not in undo.edited
        assert mine.lm_head.weight is mine.model.embed_tokens.weight and mine.lm_head.weight.requires_grad
        mine(torch.arange(5)[None], labels=torch.arange(5)[None]).loss.backward()
        assert mine.lm_head.weight.grad is not None


@pytest.mark.parametrize("mode", [torch.enable_grad, torch.no_grad, torch.inference_mode])
@pytest.mark.parametrize("form", [torch.clone, lambda tensor: tensor.repeat_interleave(2)[::2]], ids=["plain", "strided"])
def test_gradients_of_what_was_computed_before_an_edit_are_refused(mode, form):
    weight = form(torch.ones(4)).requires_grad_()
    loss = (weight * weight).sum()
    with mode():
        undo = lcepatch.diff({"w": torch.ones(4)}, {"w": torch.zeros(4)}).apply_({"w": weight})
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.backward()
    undo()


def test_views_of_one_storage_are_edited_if_they_become_what_each_would_alone():
    old = torch.arange(24.0).reshape(4, 6)

    def edit(views, change, check):
        mine = old.clone()
        state = views(mine)
        before = {name: tensor.clone() for name, tensor in state.items()}
        new = {name: change(at, tensor) for at, (name, tensor) in enumerate(before.items())}
        undo = lcepatch.diff(before, new).apply_(state, 1, check=check)
        assert bits(state) == bits(new)
        undo()
        assert torch.equal(mine, old)

    def alike(_, tensor):
        return torch.where(tensor > 9, tensor * 2, tensor)

    def differently(at, tensor):
        return tensor + at + 1

    def tied(x):
        return {"a": x, "b": x.t()}

    def crossed(x):
        return {"a": x[:, ::2], "b": x[1:, 1:5].t(), "c": x.view(-1)[7], "d": torch.from_numpy(x.numpy()[::-1, 3:].copy())}

    def columns(x):
        return {"a": x[:, ::2], "b": x[:, 1::2].t()}

    for check in ("full", "quick"):
        for views in (tied, crossed, columns):
            edit(views, alike, check)
        edit(columns, differently, check)
        for views in (tied, crossed, lambda x: {"a": x, "b": torch.from_numpy(x.numpy().T)}):
            with pytest.raises(lcepatch.Refused, match="share memory, and the patch changes them differently") as raised:
                edit(views, differently, check)
            assert raised.value.kind == "base.shared"


@pytest.mark.parametrize("dtype", [*DTYPES, torch.float64, torch.float8_e4m3fn, torch.float8_e5m2], ids=str)
@pytest.mark.parametrize("layout", ["plain", "transposed", "strided", "scalar"])
def test_every_layout_gives_the_same_bits(dtype, layout):
    torch.manual_seed(3)

    def tensor():
        wide = torch.randn(30, 40).to(dtype)
        return {"plain": wide, "transposed": wide.t(), "strided": wide[3:20, 1::3], "scalar": wide[0, 0].clone()}[layout]

    old, new = tensor(), tensor()
    patch = lcepatch.diff({"w": old}, {"w": new})
    for alpha in (1, -0.25):
        for check in ("full", "quick"):
            plain, mine = old.clone(memory_format=torch.contiguous_format), torch.empty_strided(old.shape, old.stride(), dtype=dtype)
            mine.view(torch.uint8 if old.element_size() == 1 else old.dtype).copy_(old.view(torch.uint8) if old.element_size() == 1 else old)
            lcepatch.apply_(patch, {"w": plain}, alpha)
            undo = lcepatch.apply_(patch, {"w": mine}, alpha, check=check)
            assert bits({"w": mine}) == bits({"w": plain})
            assert alpha != 1 or bits({"w": mine}) == bits({"w": new})
            undo()
            assert bits({"w": mine}) == bits({"w": old})


def test_a_device_is_asked_for_the_selected_elements_only(monkeypatch):
    """Where there is no other device, tensors that count as being elsewhere go the same way."""
    from lcepatch import _arrays

    device = "cuda" if torch.cuda.is_available() else "cpu"
    start = _arrays.Slot.__init__

    def elsewhere(self, name, array):
        start(self, name, array)
        self.is_direct = False

    monkeypatch.setattr(_arrays.Slot, "__init__", elsewhere)
    torch.manual_seed(0)
    old = {"w": torch.randn(300, 200, dtype=torch.bfloat16), "v": torch.randn(50)}
    new = {name: tensor + (torch.rand(tensor.shape) < 0.01) * torch.randn(tensor.shape) for name, tensor in old.items()}
    new = {name: tensor.to(old[name].dtype) for name, tensor in new.items()}
    new["v"][3] = 5
    patch = lcepatch.diff(old, new)
    gathered = []
    gather = _arrays.Slot.gather
    monkeypatch.setattr(_arrays.Slot, "gather", lambda self, at, **more: gathered.append(len(at)) or gather(self, at, **more))
    for check in ("full", "quick"):
        mine = {name: tensor.to(device).clone() for name, tensor in old.items()}
        tied = {**mine, "other": mine["w"]}
        undo = lcepatch.apply_(patch, tied, -2, check=check)
        expected = {name: tensor.clone() for name, tensor in old.items()}
        patch.apply_(expected, -2)
        assert bits(mine) == bits(expected)
        assert undo.changed() == []
        mine["v"][:] = 9
        assert undo.changed() == ["v"]
        with pytest.raises(lcepatch.Refused):
            undo()
        undo(force=True)
        assert bits({"w": mine["w"]}) == bits({"w": old["w"]})
    assert gathered and sum(gathered) < 0.2 * 300 * 200


@pytest.mark.parametrize(
    "wishes", [{"prefix": {"a.": "b.", "b.": "c."}}, {"include": ["a.*"]}, {"exclude": ["b.*"]}], ids=lambda wishes: next(iter(wishes))
)
@pytest.mark.parametrize("different", [False, True])
def test_strided_tensors_are_found_by_other_names_and_among_others(wishes, different):
    def twice(value):
        return torch.from_numpy(np.repeat(value, 2, axis=0))[::2]

    rng = np.random.default_rng(1)
    base = {name: rng.standard_normal((50, 4)).astype("f4") for name in ("a.w", "b.w")}
    reference = {name: value.copy() for name, value in base.items()}
    reference["a.w"][::7] += 1
    reference["b.w"][3::11] += 2
    patch = lcepatch.diff(base, reference, portable=True)
    names = {"a.w": "b.w", "b.w": "c.w"} if "prefix" in wishes else {"a.w": "a.w", "b.w": "b.w"}
    there = {names[name]: value + np.float32(different) for name, value in base.items()}
    alpha = -2 if different else 1
    contiguous = {name: value.copy() for name, value in there.items()}
    strided = {name: twice(value) for name, value in there.items()}
    for arrays in (contiguous, strided):
        undo = patch.apply_(arrays, alpha, check="quick", different_base=different, **wishes)
        assert undo.edited
    assert all(np.array_equal(strided[name].numpy(), contiguous[name]) for name in there)


def test_what_has_no_plain_memory_is_refused_by_name():
    old, new = {"v": torch.zeros(4), "w": torch.zeros(4)}, {"v": torch.ones(4), "w": torch.ones(4)}
    patch = lcepatch.diff(old, new)

    class Wrapped(torch.Tensor):
        pass

    class DTensor(torch.Tensor):
        pass

    strange = {
        "array.meta": [torch.zeros(4, device="meta")],
        "array.quantized": [torch.zeros(4).as_subclass(Wrapped)],
        "array.sharded": [torch.zeros(4).as_subclass(DTensor)],
        "array.unsupported": [torch.zeros(4).to_sparse(), torch.zeros(4, dtype=torch.complex128)],
        "array.overlapping": [torch.zeros(1).expand(4)],
        "base.differs": [torch.zeros(4, dtype=torch.bfloat16), torch.zeros(5), torch.ones(4).neg()],
    }
    if "fbgemm" in torch.backends.quantized.supported_engines or "qnnpack" in torch.backends.quantized.supported_engines:
        strange["array.quantized"].append(torch.quantize_per_tensor(torch.zeros(4), 0.1, 0, torch.quint8))
    for expected, tensors_ in strange.items():
        for tensor in tensors_:
            mine = {"v": torch.zeros(4), "w": tensor}
            with pytest.raises(lcepatch.Refused, match="w") as raised:
                patch.apply_(mine)
            assert raised.value.kind == expected and raised.value.help
            assert not mine["v"].any()


def test_a_failure_while_a_device_is_written_to_restores_everything(monkeypatch):
    from lcepatch import _arrays

    old = {"a": torch.zeros(9), "b": torch.zeros(3, 3).t(), "c": torch.zeros(2, 4).t()}
    new = {name: tensor + 1 for name, tensor in old.items()}
    mine = {name: tensor.clone() for name, tensor in old.items()}
    scatter, calls = _arrays.Slot.scatter, []

    def failing(self, indices, values):
        calls.append(self.name)
        scatter(self, indices, values)
        if len(calls) == 2:
            raise MemoryError("the device has no more")

    monkeypatch.setattr(_arrays.Slot, "scatter", failing)
    with pytest.raises(MemoryError):
        lcepatch.diff(old, new).apply_(mine)
    assert len(calls) == 4 and not any(tensor.any() for tensor in mine.values())


def test_what_a_signal_raises_while_an_edit_is_taken_back_is_for_afterwards(monkeypatch):
    class TimeIsUp(Exception):
        pass

    base = {name: torch.zeros(8, 6, dtype=torch.float32)[:, ::2] for name in ("a", "b")}
    patch = lcepatch.diff({name: torch.zeros(8, 3) for name in base}, {name: torch.ones(8, 3) for name in base})
    undo = patch.apply_(base)
    real, calls = lcepatch._undo.Slot.scatter, []

    def scatter(slot, *values):
        real(slot, *values)
        calls.append(slot.name)
        if len(calls) == 1:
            raise TimeIsUp

    monkeypatch.setattr(lcepatch._undo.Slot, "scatter", scatter)
    with pytest.raises(TimeIsUp):
        undo()
    assert not undo.active and all(not array.any() for array in base.values())


def test_a_model_that_was_moved_or_reloaded_meanwhile_is_restored(tmp_path):
    base, patch = saved(tmp_path, "gpt2", torch.float32)
    mine = load(base, "gpt2")
    before = bits(mine.state_dict())
    with apply_patch(mine, patch):
        for parameter in mine.parameters():
            parameter.data = parameter.data.clone()
        gc.collect()
    assert bits(mine.state_dict()) == before
    with apply_patch(mine, patch):
        mine.load_state_dict({name: tensor.clone() for name, tensor in mine.state_dict().items()}, assign=True)
        gc.collect()
    assert bits(mine.state_dict()) == before
    undo = apply_patch(mine, patch)
    mine.half()
    with pytest.raises(lcepatch.Refused, match="not restored") as raised:
        undo()
    assert raised.value.kind == "array.converted"


def test_memory_that_was_given_back_is_not_touched():
    """As when weights are sharded: their storage is emptied, and filled again elsewhere."""
    old, new = {"v": torch.zeros(9), "w": torch.zeros(1 << 20)}, {"v": torch.ones(9), "w": torch.ones(1 << 20)}
    patch = lcepatch.diff(old, new)
    undo = patch.apply_(old)
    old["w"].untyped_storage().resize_(0)
    assert undo.changed() == []
    with pytest.raises(lcepatch.Refused, match="w: ") as raised:
        undo()
    assert raised.value.kind == "array.converted" and not old["v"].any()
    old["w"].untyped_storage().resize_(4 << 20)
    old["w"].zero_()
    undo = patch.apply_(old)
    old["w"].untyped_storage().resize_(0)
    other = torch.empty(1 << 22)
    old["w"].untyped_storage().resize_(4 << 20)
    old["w"].fill_(1)
    undo(force=True)
    assert not old["w"].any() and not old["v"].any() and len(other)
    with pytest.raises(lcepatch.Refused) as raised:
        old["w"].untyped_storage().resize_(0)
        patch.apply_(old)
    assert raised.value.kind == "array.freed" and not old["v"].any()


@pytest.mark.parametrize("kind", ["numpy", "torch"])
def test_memory_that_became_smaller_is_not_touched(kind):
    old = {"a": np.zeros(50_000, "f4")}
    patch = lcepatch.diff(old, {"a": np.ones(50_000, "f4")})
    mine = {"a": old["a"].copy() if kind == "numpy" else torch.zeros(50_000)}
    undo = patch.apply_(mine)
    if kind == "numpy":
        mine["a"].resize(10, refcheck=False)
    else:
        mine["a"].untyped_storage().resize_(40)
    with pytest.raises(lcepatch.Error) as refused:
        undo()
    assert refused.value.kind == "array.converted"
    if kind == "torch":
        with pytest.raises(lcepatch.Error) as refused:
            patch.apply_(mine)
        assert refused.value.kind == "array.freed"


def test_files_that_tensors_were_read_from_stay_as_they_are(tmp_path):
    old, new = {"w": torch.zeros(64)}, {"w": torch.ones(64)}
    save_file(old, tmp_path / "a.safetensors")
    before = (tmp_path / "a.safetensors").read_bytes()
    mine = load_file(tmp_path / "a.safetensors")
    with lcepatch.diff(old, new).apply_(mine):
        assert mine["w"].all()
    assert (tmp_path / "a.safetensors").read_bytes() == before


def test_no_gradients_and_inference_tensors():
    old, new = {"w": torch.zeros(8)}, {"w": torch.ones(8)}
    patch = lcepatch.diff(old, new)
    with torch.inference_mode():
        mine = {"w": torch.zeros(8)}
        with patch.apply_(mine):
            assert mine["w"].all()
        assert not mine["w"].any()
    with torch.no_grad(), patch.apply_({"w": torch.zeros(8, requires_grad=True)}):
        pass


def test_values_and_positions_are_those_of_an_edited_tensor():
    torch.manual_seed(0)
    old = {"w": torch.randn(40, 30).bfloat16(), "v": torch.randn(8)}
    new = {"w": torch.where(torch.rand(40, 30) < 0.1, old["w"] * 3, old["w"]), "v": torch.randn(8)}
    patch = lcepatch.diff(old, new)
    at = torch.from_numpy(patch.positions("w").copy())
    assert torch.equal(patch.values("w", old, 1), new["w"].reshape(-1)[at])
    assert torch.equal(at, (old["w"] != new["w"]).reshape(-1).nonzero().reshape(-1))
    edited = copy.deepcopy(old)
    patch.apply_(edited, -2)
    assert torch.equal(patch.values("w", old, -2), edited["w"].reshape(-1)[at])


def test_the_vectors_of_the_format():
    dtypes = {
        "BF16": torch.bfloat16, "F16": torch.float16, "F32": torch.float32, "F64": torch.float64,
        "F8_E4M3": torch.float8_e4m3fn, "F8_E5M2": torch.float8_e5m2, "BOOL": torch.bool, "C64": torch.complex64,
        "I8": torch.int8, "I16": torch.int16, "I32": torch.int32, "I64": torch.int64,
        "U8": torch.uint8, "U16": torch.uint16, "U32": torch.uint32, "U64": torch.uint64,
    }  # fmt: skip
    tried = 0
    for vector in vectors():
        tensors_ = raw(vector["base"])
        if any(dtype not in dtypes or not data for dtype, _, data in tensors_.values()):
            continue

        def state(tensors_=tensors_):
            each = tensors_.items()
            return {name: torch.frombuffer(bytearray(data), dtype=dtypes[dtype]).reshape(shape) for name, (dtype, shape, data) in each}

        patch = lcepatch.load(vector["path"])
        for case in [{"alpha": 1, "result": vector["result"]}, *vector["alphas"]]:
            if case["result"] is None or "error" in case:
                continue
            mine = state()
            undo = patch.apply_(mine, case["alpha"], not_finite=True)
            assert {name: bits(mine)[name].hex() for name in case["result"]} == case["result"], vector["path"]
            undo()
            assert bits(mine) == bits(state())
            tried += 1
    assert tried > 200


def train(folder, anchors, steps=7, resume=None):
    torch.manual_seed(0)
    mine = transformers.LlamaForCausalLM(configuration("llama"))
    data = [{"input_ids": torch.arange(8) + at, "labels": torch.arange(8) + at} for at in range(16)]
    arguments = transformers.TrainingArguments(
        output_dir=str(folder), max_steps=steps, save_steps=1, per_device_train_batch_size=2, report_to=[],
        disable_tqdm=True, use_cpu=True, learning_rate=1e-3, seed=0, logging_strategy="no",
    )

    class Copy(transformers.TrainerCallback):
        """The whole checkpoints, to compare with."""

        def on_save(self, args, state, control, **_):
            name = f"checkpoint-{state.global_step}"
            save_file(load_file(Path(args.output_dir) / name / "model.safetensors"), folder.parent / f"{name}.safetensors")

    trainer = transformers.Trainer(
        model=mine, args=arguments, train_dataset=data, callbacks=[Copy, PatchCheckpoints(anchors=anchors)]
    )
    trainer.train(resume_from_checkpoint=resume)


@pytest.mark.parametrize("anchors", [1, 3, 100])
def test_checkpoints_of_a_training_are_kept_as_patches_and_restored(tmp_path, anchors):
    folder = tmp_path / "run"
    train(folder, anchors)
    whole = {step for step in range(1, 8) if (folder / f"checkpoint-{step}" / "model.safetensors").exists()}
    assert whole == {step for step in range(1, 8) if (step - 1) % anchors == 0 or step == 7}
    for step in range(1, 8):
        out = tmp_path / f"restored-{step}"
        restore(folder / f"checkpoint-{step}", out)
        mine, expected = load_file(out / "model.safetensors"), load_file(tmp_path / f"checkpoint-{step}.safetensors")
        assert bits(mine) == bits(expected)
        transformers.LlamaForCausalLM.from_pretrained(out)
        with pytest.raises(lcepatch.UsageError, match="exists"):
            restore(folder / f"checkpoint-{step}", out)


def test_a_training_goes_on_from_the_newest_checkpoint(tmp_path):
    folder = tmp_path / "run"
    train(folder, 3, steps=4)
    train(folder, 3, steps=6, resume=True)
    for step in range(1, 7):
        restore(folder / f"checkpoint-{step}", tmp_path / f"r{step}")
        mine = load_file(tmp_path / f"r{step}" / "model.safetensors")
        assert bits(mine) == bits(load_file(tmp_path / f"checkpoint-{step}.safetensors"))


def test_a_checkpoint_that_lost_its_base_or_whose_patch_was_exchanged_is_not_restored(tmp_path):
    folder = tmp_path / "run"
    train(folder, 100, steps=4)
    (folder / "checkpoint-2" / "model.lcepatch").write_bytes((folder / "checkpoint-3" / "model.lcepatch").read_bytes())
    with pytest.raises(lcepatch.Refused, match="checkpoint-2"):
        restore(folder / "checkpoint-3", tmp_path / "out")
    (folder / "checkpoint-1" / "model.safetensors").unlink()
    with pytest.raises(lcepatch.Refused, match="neither weights nor a patch"):
        restore(folder / "checkpoint-3", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def saved_again(folder, monkeypatch, failure):
    """Checkpoint 3 is saved, and what should become a patch fails."""

    def fail(*_, **__):
        raise failure

    arguments = transformers.TrainingArguments(output_dir=str(folder), report_to=[], use_cpu=True)
    shutil.copytree(folder / "checkpoint-1", folder / "checkpoint-3")
    state = transformers.TrainerState(global_step=3, is_world_process_zero=True)
    with monkeypatch.context() as patched:
        if failure is not None:
            patched.setattr("lcepatch._checkpoints.diff", fail)
        PatchCheckpoints().on_save(arguments, state, None)


def test_a_training_goes_on_if_a_patch_cannot_be_made(tmp_path, caplog, monkeypatch):
    folder = tmp_path / "run"
    train(folder, 100, steps=2)
    (folder / "checkpoint-2" / "model.safetensors").write_bytes(b"not weights")
    saved_again(folder, monkeypatch, None)
    assert "no weights were removed for" in caplog.text and "checkpoint-3" in caplog.text
    restore(folder / "checkpoint-3", tmp_path / "out")
    assert load_file(tmp_path / "out" / "model.safetensors")


@pytest.mark.parametrize("failure", [MemoryError("no more"), RuntimeError("a panic"), OSError(28, "no space"), TypeError("x")], ids=repr)
def test_no_failure_ends_a_training_and_an_interruption_does(tmp_path, caplog, monkeypatch, failure):
    folder = tmp_path / "run"
    train(folder, 100, steps=2)
    saved_again(folder, monkeypatch, failure)
    assert str(failure) in caplog.text and "checkpoint-3" in caplog.text
    assert ("Traceback" in caplog.text) == (not isinstance(failure, OSError))
    for step in (2, 3):
        restore(folder / f"checkpoint-{step}", tmp_path / f"r{step}")
        assert load_file(tmp_path / f"r{step}" / "model.safetensors")
    shutil.rmtree(folder / "checkpoint-3")
    with pytest.raises(KeyboardInterrupt):
        saved_again(folder, monkeypatch, KeyboardInterrupt())


def test_settings_that_delete_checkpoints_are_refused():
    for wrong in ({"save_total_limit": 2}, {"load_best_model_at_end": True, "eval_strategy": "steps", "save_strategy": "steps"}):
        arguments = transformers.TrainingArguments(output_dir="unused", report_to=[], use_cpu=True, **wrong)
        with pytest.raises(lcepatch.UsageError, match=next(iter(wrong))):
            PatchCheckpoints().on_train_begin(arguments, None, None)


def test_what_is_no_model_is_refused():
    base = {"w": torch.zeros(9)}
    patch = lcepatch.diff(base, {"w": torch.ones(9)})
    for wrong in (base, patch, None):
        with pytest.raises(lcepatch.UsageError, match=type(wrong).__name__) as raised:
            apply_patch(wrong, patch)
        assert "lcepatch.apply_" in raised.value.help
    with pytest.raises(lcepatch.UsageError, match="Linear") as raised:
        patch.apply_(torch.nn.Linear(3, 3))
    assert "state_dict()" in raised.value.help


def test_a_model_that_makes_its_tensors_anew_is_refused():
    """As one does that gathers or unpacks them for its state dict: the edit would not reach the model."""

    class Packed(torch.nn.Linear):
        def _save_to_state_dict(self, destination, prefix, keep_vars):
            destination[prefix + "weight"] = self.weight.detach() * 1

    model = Packed(3, 3)
    base = {"weight": model.weight.detach().clone()}
    with pytest.raises(lcepatch.Refused) as raised:
        apply_patch(model, lcepatch.diff(base, {"weight": base["weight"] + 1}))
    assert raised.value.kind == "array.temporary"
