"""Requested and in-service vectors against a list that is searched by the rules."""

from hypothesis import given
from hypothesis import strategies as st

from vtx.machine.devices.lapic_vectors import VectorState

ACTIONS = st.lists(
    st.one_of(
        st.tuples(st.just("request"), st.integers(16, 255), st.booleans()),
        st.tuples(st.just("tpr"), st.integers(0, 255), st.just(False)),
        st.tuples(st.sampled_from(("take", "end")), st.just(0), st.just(False)),
    ),
    max_size=40,
)


@given(ACTIONS)
def test_priorities_follow_the_rules_of_a_plain_list(actions):
    state = VectorState()
    requested, in_service, tpr, level_of = set(), set(), 0, {}
    for kind, number, level in actions:
        highest = max(in_service, default=0)
        above = [v for v in requested if v >> 4 > max(tpr >> 4, highest >> 4)]
        expected = max(above, default=None)
        assert state.pending() == expected
        assert state.ppr >> 4 == max(tpr >> 4, highest >> 4)
        assert state.ppr & 0xF == (tpr & 0xF if tpr >> 4 >= highest >> 4 else 0)
        if kind == "request":
            state.request(number, level)
            requested.add(number)
            level_of[number] = level
        elif kind == "tpr":
            state.tpr = tpr = number
        elif kind == "take" and expected is not None:
            assert state.acknowledge() == expected
            requested.remove(expected)
            in_service.add(expected)
        elif kind == "end":
            ended = state.end_highest()
            if not in_service:
                assert ended is None
            else:
                assert (ended.vector, ended.level_triggered) == (highest, level_of[highest])
                in_service.remove(highest)
