"""One schedule for what TVM leaves as written: sums run outside of the axis that lies in memory, which LLVM vectorises.

TVM's own rules for processors know softmax and products with one vector; convolutions and products of matrices stay
loops whose innermost adds to one number, which no vector instruction can do in the order that rounding depends on.
Here the order of every sum stays.
"""

from tvm import s_tir, tirx
from tvm.s_tir.dlight import ApplyDefaultSchedule
from tvm.s_tir.dlight.analysis import collect_vars_used_in_prim_expr, normalize_prim_func
from tvm.s_tir.dlight.base import ScheduleRule


class SumsOutside(ScheduleRule):
    """Reorder the loops of reductions: spatial axes, then those that are summed over, then the last spatial one."""

    def apply(self, func, target, _):
        """A schedule, or None where nothing is to be done or TVM refuses it."""
        del target
        if not isinstance(func, tirx.PrimFunc):
            return None
        schedule = s_tir.Schedule(func)
        try:
            done = [_reordered(schedule, block) for block in normalize_prim_func(schedule) or ()]
        except Exception:  # it refuses in many ways; the function stays as it was
            return None
        return schedule if any(done) else None


def scheduled(module):
    """The module with that rule on all of its functions."""
    return ApplyDefaultSchedule(SumsOutside())(module)


def _reordered(schedule, info):
    kinds, loops = info.dom_kind(), schedule.get_loops(info.block_rv)
    if info.is_injective() or set(kinds) != {"S", "R"} or len(loops) != len(kinds):
        return False
    block = schedule.get(info.block_rv)
    last = [axis.var for axis, kind in zip(block.iter_vars, kinds, strict=True) if kind == "S"][-1]
    if not _is_contiguous(block, last):
        return False
    spatial, summed = ([loop for loop, kind in zip(loops, kinds, strict=True) if kind == one] for one in "SR")
    schedule.reorder(*spatial[:-1], *summed, spatial[-1])
    schedule.decompose_reduction(info.block_rv, summed[0])
    return True


def _is_contiguous(block, axis):
    """Does every tensor that is read have this axis last, or not at all?"""
    return all(
        axis not in collect_vars_used_in_prim_expr(extent.min) for read in block.reads for extent in read.region[:-1]
    )
