"""The IR: use-lists, erasing, regions, purity, verification, difference."""

from __future__ import annotations

from collections.abc import Callable

import ml_dtypes
import numpy as np
import pytest

from ramiel_ir.errors import ModelError
from ramiel_ir.ir import Attribute, DType, Graph, Names, Op, Tensor, Type, Use, Value
from ramiel_ir.laws import difference, verify
from ramiel_ir.parser import parse_graph

F32 = Type(DType.F32, (2, 4))


def small() -> Graph:
    """x, w → s = Add → y0, y1 = Split; y1 is not read; s and y0 are returned, y0 twice."""
    graph = Graph("small", [Value("x", F32)], opsets={"": 21})
    weight = graph.add_weight("w", Tensor.of(np.ones((2, 4), np.float32)))
    total = graph.add("Add", [graph.inputs[0], weight], "s", F32)
    first, _ = graph.add("Split", [total], ["y0", "y1"], F32, axis=1)
    graph.set_outputs([total, first, first])
    return graph


def branch() -> Graph:
    """a = Relu(x); If(c) reads a in both branches, one of which nests another If."""
    graph = Graph("branch", [Value("x", F32), Value("c", Type(DType.BOOL, ()))])
    a = graph.add("Relu", graph.inputs[:1], "a", F32)
    inner_then, inner_else = Graph("it"), Graph("ie")
    inner_then.set_outputs([inner_then.add("Neg", [a], "n", F32)])
    inner_else.set_outputs([inner_else.add("Abs", [graph.inputs[0]], "m", F32)])
    outer_then, outer_else = Graph("ot"), Graph("oe")
    nested = {"then_branch": inner_then, "else_branch": inner_else}
    op = outer_then.append(Op("If", [graph.inputs[1]], [Value("k", F32)], regions=nested))
    outer_then.set_outputs(op.writes)
    outer_else.set_outputs([outer_else.add("Exp", [a], "e", F32)])
    regions = {"then_branch": outer_then, "else_branch": outer_else}
    graph.append(Op("If", [graph.inputs[1]], [Value("y", F32)], regions=regions))
    graph.set_outputs(graph.ops[-1].writes)
    return graph


# Uses ---------------------------------------------------------------------------------------------


def test_use_lists_hold_operands_and_outputs_in_order() -> None:
    graph = small()
    total, first = graph.ops[0].writes[0], graph.ops[1].writes[0]
    assert list(total.uses) == [Use(graph.ops[1], 0), Use(graph, 0)]
    assert list(first.uses) == [Use(graph, 1), Use(graph, 2)]
    assert total.users() == [graph.ops[1]]
    assert total.is_output
    assert not graph.inputs[0].is_output


def test_replacing_all_uses_reaches_operands_outputs_and_regions() -> None:
    graph = branch()
    a, x = graph.ops[0].writes[0], graph.inputs[0]
    graph.set_outputs([a])
    a.replace_all_uses(x)
    verify(graph)
    assert not a.uses
    assert graph.outputs == (x,)
    assert set(graph.ops[1].captures) == {x, graph.inputs[1]}


def test_a_use_in_a_region_is_a_use_by_the_op_that_owns_it() -> None:
    graph = branch()
    a = graph.ops[0].writes[0]
    assert a.users() == [graph.ops[1]]
    assert not a.is_output
    assert graph.ops[1].reads == [graph.inputs[1], a, graph.inputs[0]]
    assert graph.ops[1].captures == [graph.inputs[1], a, graph.inputs[0]]


def test_an_op_can_be_told_to_read_something_else_in_its_regions_too() -> None:
    graph = branch()
    a, x = graph.ops[0].writes[0], graph.inputs[0]
    graph.set_outputs([*graph.outputs, a])
    graph.ops[1].replace_reads(a, x)
    verify(graph)
    assert list(a.uses) == [Use(graph, 1)]


def test_setting_outputs_gives_up_the_old_ones() -> None:
    graph = small()
    first = graph.ops[1].writes[0]
    graph.set_outputs([graph.inputs[0]])
    assert not first.uses
    graph.set_output(1, first)
    assert graph.outputs == (graph.inputs[0], first)
    verify(graph)


# Erasing and reordering ---------------------------------------------------------------------------


def test_erasing_needs_an_op_without_uses() -> None:
    graph = small()
    with pytest.raises(ModelError, match="%s = Add cannot be erased: %s still has uses"):
        graph.erase(graph.ops[0])
    with pytest.raises(ModelError, match="%w cannot be erased: it still has uses"):
        graph.erase_weights(graph.weights)
    verify(graph)


def test_erasing_several_ops_at_once_may_name_them_in_any_order() -> None:
    graph = small()
    graph.set_outputs(graph.inputs)
    graph.erase(*graph.ops)
    graph.erase_weights(graph.weights)
    verify(graph)
    assert (graph.ops, graph.weights) == ([], [])


def test_erasing_an_op_gives_up_what_its_regions_read() -> None:
    graph = branch()
    graph.set_outputs(graph.inputs)
    graph.erase(graph.ops[1])
    assert not graph.ops[0].writes[0].uses
    graph.erase(graph.ops[0])
    verify(graph)


def test_an_order_against_the_data_does_not_verify() -> None:
    graph = small()
    graph.reorder(graph.ops[::-1])
    with pytest.raises(ModelError, match="%y0 = Split reads %s before it is defined"):
        verify(graph)


def test_a_value_has_one_producer() -> None:
    graph = small()
    with pytest.raises(ModelError, match="%s already has a producer"):
        Op("Relu", [], graph.ops[0].results)


# Verification -------------------------------------------------------------------------------------


def _rename(name: str) -> Callable[[Graph], None]:
    def damage(graph: Graph) -> None:
        graph.ops[1].writes[0].name = name

    return damage


def _forget_use(graph: Graph) -> None:
    graph.inputs[0].uses.clear()


def _invent_use(graph: Graph) -> None:
    graph.inputs[0].uses[Use(graph.ops[1], 3)] = None


def _retype_weight(graph: Graph) -> None:
    graph.weights[0].type = Type(DType.F64, (2, 4))


def _negative_cluster(graph: Graph) -> None:
    graph.ops[0].cluster = -1


def _stranger(graph: Graph) -> None:
    graph.ops[0].set_operand(0, Value("stranger", F32))


def _foreign_output(graph: Graph) -> None:
    graph.set_outputs([small().inputs[0]])


def _wrong_home(graph: Graph) -> None:
    graph.ops[0].graph = small()


def _wrong_producer(graph: Graph) -> None:
    graph.ops[0].writes[0].producer = graph.ops[1]


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (_rename("x"), "%x = Split: the name %x stands for two values"),
        (_rename(""), "a value has no name"),
        (_forget_use, "the use-list of %x lacks its use by %s = Add"),
        (_invent_use, "the use-list of %x holds more than its uses"),
        (_retype_weight, "weight %w has another type than its data"),
        (_negative_cluster, "%s = Add has the cluster -1"),
        (_stranger, "%s = Add reads %stranger before it is defined"),
        (_foreign_output, "output %x of @small is not defined in it"),
        (_wrong_home, "%s = Add does not know that it is in @small"),
        (_wrong_producer, "%s is produced by %y0 = Split as well"),
    ],
)
def test_verify_names_what_is_broken(damage: Callable[[Graph], None], message: str) -> None:
    graph = small()
    verify(graph)
    damage(graph)
    with pytest.raises(ModelError, match=message):
        verify(graph)


def test_names_may_repeat_in_regions_side_by_side_but_not_inside_each_other() -> None:
    graph = branch()
    names = {value.name: value for value in graph.values()}
    names["e"].name = "k"
    verify(graph)
    names["e"].name = "a"
    with pytest.raises(ModelError, match="the name %a stands for two values"):
        verify(graph)


def test_a_value_of_one_region_is_not_visible_in_another() -> None:
    graph = branch()
    outer_then, outer_else = graph.ops[1].regions.values()
    outer_else.set_outputs(outer_then.outputs)
    with pytest.raises(ModelError, match="output %k of @oe is not defined in it"):
        verify(graph)


# Difference ---------------------------------------------------------------------------------------

_TEXT = """
graph @g(%x: f32[2], %z: f32[2]) opset 21, a.b 1 {
  metadata "k" = "v"
  %w = weight : f32[1] = [1.0]
  %a = Add(%x, %w) {k=[1, 2], n=nan} @0 : f32[2]
  %b, _ = Split(%a) : f32[1], _
  %c = If(%x) : f32[2] then = @t() {
    %d = Relu(%a) : f32[2]
    return %d
  }
  return %b, %c
}
"""


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("@g", "@h"), ("21", "22"), ("a.b 1", "a.b 2"), ('"v"', '"u"'), ("[1.0]", "[2.0]"),
        ("%z", "%zz"), ("%z: f32[2]", "%z: f32[?]"), ("Add(%x, %w)", "Add(%w, %x)"),
        ("Add", "Mul"), ("Add", "a.b.Add"), ("k=[1, 2]", "k=[1, 3]"), ("k=[1, 2]", "k=[1.0, 2.0]"),
        ("n=nan", "n=inf"), (", n=nan", ""), ("@0", "@1"), (" @0", ""), ("%b, _", "_, %b"),
        ("f32[1], _", "f16[1], _"), ("If(%x)", "If(_)"), ("then =", "else ="),
        ("Relu(%a)", "Relu(%x)"), ("return %d", "return %a"), ("%b, %c", "%c, %b"),
        ("%b, %c", "%b"), ("return %d", "return"),
    ],
)  # fmt: skip
def test_difference_sees_everything(old: str, new: str) -> None:
    assert _TEXT.count(old) >= 1
    left = parse_graph(_TEXT)
    changed = _TEXT.replace(old, new, 1)
    if new == "_, %b":
        changed = changed.replace("f32[1], _", "_, f32[1]")
    right = parse_graph(changed)
    assert difference(left, parse_graph(_TEXT)) is None
    assert difference(left, right) is not None
    assert difference(right, left) is not None


# Data ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", list(DType))
def test_element_types_are_found_by_number_and_by_numpy(dtype: DType) -> None:
    assert DType.from_onnx(dtype.onnx_code) is dtype
    assert DType.from_numpy(dtype.numpy) is dtype


def test_unknown_element_types_are_refused() -> None:
    with pytest.raises(ModelError, match="element type 99"):
        DType.from_onnx(99)
    with pytest.raises(ModelError, match="datetime64"):
        DType.from_numpy(np.dtype("datetime64[s]"))


def test_bytes_are_those_of_the_packed_form() -> None:
    assert Type(DType.F32, (2, 3)).nbytes == 24
    assert Type(DType.I4, (3,)).nbytes == 2
    assert Type(DType.F32, ()).nbytes == 4
    assert Type(DType.F32, (0, 5)).nbytes == 0
    assert Type(DType.F32, ("N",)).nbytes is None
    assert Type(DType.F32).nbytes is None
    assert Type(DType.STRING, (2,)).nbytes is None
    assert Type(Type(DType.F32, (2,)), None, "sequence").nbytes is None


def test_an_unknown_rank_is_not_rank_0() -> None:
    assert Type(DType.F32, ()).is_static
    assert Type(DType.F32, ()).count == 1
    assert not Type(DType.F32).is_static
    assert Type(DType.F32).count is None


def test_data_is_loaded_once_and_only_when_asked_for() -> None:
    calls = []

    def load() -> np.ndarray:  # type: ignore[type-arg]
        calls.append(1)
        return np.zeros(3, np.float32)

    tensor = Tensor(Type(DType.F32, (3,)), load)
    assert (tensor.count, tensor.shape, tensor.dtype, calls) == (3, (3,), DType.F32, [])
    assert tensor.digest == tensor.digest
    assert tensor.array is tensor.array
    assert calls == [1]


def test_digests_tell_apart_type_shape_bytes_and_sign_of_zero() -> None:
    arrays = [
        np.zeros(4, np.float32),
        np.zeros((2, 2), np.float32),
        np.zeros(4, np.int32),
        np.array([0, 0, 0, 1], np.float32),
        np.array([-0.0, 0, 0, 0], np.float32),
        np.zeros(4, ml_dtypes.bfloat16),
        np.zeros(4, np.float16),
        np.array(["a", "bc"], object),
        np.array(["ab", "c"], object),
        np.zeros(0, np.float32),
    ]
    digests = [Tensor.of(array).digest for array in arrays]
    assert len(set(digests)) == len(digests)
    transposed = np.arange(6, dtype=np.float32).reshape(2, 3).T
    assert Tensor.of(transposed).digest == Tensor.of(transposed.copy()).digest


def test_plain_values_become_attributes() -> None:
    assert Attribute.of(3) == Attribute("int", 3)
    assert Attribute.of(True).kind == "int"
    assert Attribute.of(0.1).value == float(np.float32(0.1))
    assert Attribute.of([1, 2]) == Attribute("ints", (1, 2))
    assert Attribute.of([1, 2.5]) == Attribute("floats", (1.0, 2.5))
    assert Attribute.of("x").kind == "string"
    assert Attribute.of([b"x"]) == Attribute("strings", (b"x",))
    assert Attribute.of(F32).kind == "type"
    for bad in ([], [1, "x"], [[1]], None, object()):
        with pytest.raises(ModelError):
            Attribute.of(bad)


def test_fresh_names_are_free() -> None:
    names = Names(branch())
    assert [names.fresh("n"), names.fresh("n"), names.fresh("new")] == ["n_1", "n_2", "new"]


def test_clusters_are_sorted_and_keep_graph_order() -> None:
    graph = small()
    graph.ops[0].cluster, graph.ops[1].cluster = 7, 2
    assert list(graph.clusters) == [2, 7]
    graph.ops[1].cluster = None
    assert graph.clusters == {7: [graph.ops[0]]}


def test_opsets_belong_to_the_outermost_graph() -> None:
    graph = branch()
    graph.opsets["x"] = 3
    region = next(iter(graph.ops[1].regions.values()))
    nested = next(iter(region.ops[0].regions.values()))
    assert nested.opsets == {"x": 3}


def test_ops_without_results_still_have_a_label() -> None:
    op = Op("Print", [], [None, Value("b")], domain="a.b")
    assert repr(op) == "%b = a.b.Print"
    assert repr(Op("Print", [], [])) == "_ = Print"
    assert op.operand(3) is None
    assert op.attribute("missing", 5) == 5
