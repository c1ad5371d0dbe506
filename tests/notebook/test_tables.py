"""Tables: which columns are left out where a panel is narrow, and that this is said."""

from sft_magics.notebook.panels.tables import table


def test_a_column_that_is_left_out_where_it_is_narrow_is_named() -> None:
    drawn = str(table("Things", ("name", "?size#", "?kind"), [["a", "3", "b"]]))
    assert '<th scope="col" class="sft-o sft-r">size</th>' in drawn
    assert '<td class="sft-o">b</td>' in drawn
    assert "A wider window shows also: size, kind." in drawn
    assert "?" not in drawn


def test_a_table_whose_columns_all_stay_says_nothing_of_it() -> None:
    assert "wider window" not in str(table("Things", ("name", "size#"), [["a", "3"]]))
