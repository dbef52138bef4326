"""What scoring writes into a run folder, and that nothing of an earlier scoring stays in it."""

from __future__ import annotations

from pathlib import Path

from compared_runs import Runs
from run_folders import make_record

from harness.run_folder.layout import RUN_FILES
from harness.run_folder.results import ProtocolScores, write_results
from harness.scoring.match_table import MATCHES_FILE, read_table, write_table


def test_the_match_table_belongs_to_the_numbers_next_to_it(compared: Runs, tmp_path: Path) -> None:
    table = read_table(compared.good / MATCHES_FILE)
    record = make_record("m", AP=0.5)
    write_results(tmp_path, record, [ProtocolScores({}, matches=table)])
    write_table(tmp_path / "same", table)
    assert (tmp_path / MATCHES_FILE).read_bytes() == (tmp_path / "same").read_bytes()
    write_results(tmp_path, record, [ProtocolScores({})])  # the tool refused this time
    assert not (tmp_path / MATCHES_FILE).exists()
    assert MATCHES_FILE in RUN_FILES  # a fresh start removes it


def test_scores_of_other_protocols_have_their_own_folders_until_a_scoring_leaves_them_out(tmp_path: Path) -> None:
    record = make_record("m", AP=0.5)
    other = {**record["protocols"][0], "protocol": {"name": "hota", "version": "1"}}
    rows = [{"id": 1, "name": "cat", "HOTA": 0.25}]
    scored = [ProtocolScores({}), ProtocolScores({"protocol": other["protocol"]}, per_category=rows)]
    write_results(tmp_path, {**record, "protocols": [*record["protocols"], other]}, scored)
    assert (tmp_path / "scores/hota/per_category.csv").read_text() == "id,name,HOTA\n1,cat,0.25\n"
    write_results(tmp_path, record, scored[:1])
    assert not (tmp_path / "scores/hota").exists()
