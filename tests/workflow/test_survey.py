import importlib.util
from pathlib import Path

from regraft.record.store import open_store
from regraft.report.html import gallery_page
from regraft.workflow.survey import survey

_SPEC = importlib.util.spec_from_file_location("workflow_conftest", Path(__file__).parent / "conftest.py")
_CONFTEST = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(_CONFTEST)


def test_good_damaged_and_missing_packages_end_on_one_page(bert, tmp_path):
    good = str(bert())
    bad = tmp_path / "bad.pkl"
    bad.write_bytes(b"\x80\x04\x8c\x02os\x8c\x06system\x93\x8c\x04echo\x85R.")  # os.system("echo"), never run
    missing = str(tmp_path / "nowhere")
    store = open_store(tmp_path / "kept")
    entries = survey([good, str(bad), missing], store=store)
    assert [entry.scan.verdict.value if entry.scan else None for entry in entries] == ["pass", "fail", None]
    assert "nowhere" in entries[2].error or "nothing" in entries[2].error
    assert len(list(store.evidence_digests())) >= 4
    page = gallery_page(entries, title="t")
    assert "system" in page
    assert page.count('class="card"') == 3
    assert "72" in page


def test_offline_touches_no_network(bert, tmp_path):
    (entry,) = survey([str(bert())], store=open_store(tmp_path / "kept"), offline=True)
    assert entry.error == ""
