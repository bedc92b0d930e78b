"""docs/reference/rules.md: every rule that a finding may carry."""

from __future__ import annotations

from collections.abc import Iterable

from regraft.record.evidence import Severity, Verdict
from regraft.trust.scan import all_rules
from regraft.trust.scan.interface import Rule

_RESULT = {Verdict.FAIL: "fails", Verdict.INCONCLUSIVE: "is inconclusive", Verdict.PASS: "is noted"}

OTHER_RULES: dict[str, tuple[tuple[str, str, str, str], ...]] = {
    "`regraft replicate` (weights; the forward pass has the rules of verify)": (
        (
            "replicate.extra_in_candidate",
            "high",
            "A block or weights of the candidate that the reference has nothing for",
            "Build the candidate as deep as the reference.",
        ),
        ("replicate.extra_in_reference", "high", "The same, of the reference", "Add it to the candidate."),
        ("replicate.resized", "high", "The same depth and other widths, with both shapes", ""),
        ("replicate.tied", "high", "One weight where the reference has two that differ", "A weight for each place."),
        (
            "replicate.own_weights",
            "high",
            "The candidate is filled, and this weight is not what the reference's would give",
            "`--emit-converter`",
        ),
        ("replicate.own_weights_only", "info", "Weights that cannot be seen or replaced: compared as they are", ""),
        ("replicate.folded", "info", "Batch norms of one side that are part of weights of the other", ""),
        ("replicate.unused", "info", "Weights of the candidate that none of its outputs depends on", ""),
        ("replicate.not_returned", "info", "Weights of outputs that the candidate does not return", ""),
        ("replicate.tests", "info", "How many blocks have a test, and where; `data.left_out` says which have none", ""),
        ("replicate.counterexample", "high", "Inputs and weights on which the two differ, by `--fuzz`", "`--replay`"),
        ("replicate.fuzz", "info", "No such inputs were found: how many were tried, and what that bounds", ""),
        ("replicate.fuzz_refused", "unknown or medium", "Sizes that the reference alone takes; medium if implied", ""),
        ("replicate.fuzz_rounding", "low", "The candidate loses digits that the reference keeps", "See its fix."),
        ("replicate.not_kept", "info", "The counterexample could not be written to a file; the message says why", ""),
        ("replicate.replayed", "info or unknown", "What became of a counterexample that was judged again", ""),
        ("replicate.no_fuzz", "unknown", "It could not be fuzzed; info where the two differ already", "See why."),
        ("replicate.no_tests", "unknown", "Tests could not be written; info where the networks differ", "See why."),
        ("replicate.profile", "info", "How fast both networks are, and in which modules the candidate loses time", ""),
        ("replicate.no_profile", "unknown", "The speed could not be compared; the message says why", "`regraft bench`"),
        ("replicate.no_map", "low", "No map or script was written: nothing was mapped", ""),
        ("replicate.ambiguous", "unknown", "Several ways to map a weight stay open", "`-o map.toml`, `--map`"),
        ("replicate.cannot_map", "unknown", "A network cannot be traced or filled; the message says why", ""),
    ),
    "`regraft replicate --training`": (
        ("stage.diverges", "high", "A stage of the candidate computes something else", "See place and cause."),
        ("stage.undecided", "unknown", "A stage between the thresholds, or that could not be judged by itself", ""),
        ("stage.not_run", "unknown", "A stage that only one side has, or that could not be run", "Return the part."),
        ("stage.follows", "medium", "A stage made of others that diverge already", "Mend those first."),
        ("stage.agrees", "info", "A stage in which rounding explains every difference", ""),
        ("stage.timed", "info", "What a sample costs in the data pipelines, and in which step", ""),
        ("stage.not_timed", "unknown", "The data pipelines could not be timed", "See why."),
        ("stage.proposal", "info", "A faster way to run the pipeline, with the same result", "See its fix."),
        ("stage.not_equivalent", "info", "A faster way with another result (`--verbose`)", "Leave it as it is."),
        ("stage.note", "info", "What a user should know about a stage, and no verdict depends on", ""),
    ),
    "`regraft inspect`": (
        ("RGI-FACT-001", "info", "A fact, with every source that states it", ""),
        ("RGI-FACT-002", "info", "A fact that nobody states", "Where it could stand is listed; ask the publisher."),
        ("RGI-MODEL-001", "info", "A network that the files hold", ""),
        ("RGI-MODEL-002", "info", "Files of one network count their parameters differently", ""),
        ("RGI-FILE-001", "info", "A file, as its header describes it", ""),
        ("RGI-FILE-002", "info", "Files that are counted, not listed", "`--all` lists them."),
        ("RGI-FILE-003", "unknown or low", "A file that cannot be described: it is damaged", "Get a sound copy."),
        ("RGI-FILE-004", "unknown", "A file of no known format, where the model may be", "See formats.md."),
        ("RGI-FILE-005", "unknown", "A package without files", "Check the reference."),
        ("RGI-FILE-006", "unknown or low", "Something odd that did not stop the description", "Compare the source."),
        ("RGI-CON-001", "medium", "Sources that contradict each other", "Rely on the header; ask the publisher."),
        ("RGI-CON-002", "medium", "A name that promises another format than the content has", "Load what it is."),
    ),
    "`regraft fetch`": (
        ("RGF-FILE-001", "unknown", "A file that cannot be read: damaged, or packed in a way that is not known", ""),
        ("RGF-FILE-002", "unknown", "A file that is listed and cannot be had, for instance a link out of it", ""),
        ("RGF-FILE-003", "unknown", "A file with another digest than its index declares", "Do not use it."),
    ),
    "`regraft check`": (
        ("RGP-MET-001", "info", "A demand that is met", ""),
        ("RGP-VRD-001", "high or unknown", "The evidence has another verdict than the policy wants", "Read it."),
        ("RGP-EVD-001", "unknown", "There is no such evidence about these bytes", "Run the verb that is named."),
        ("RGP-DIG-001", "unknown", "The evidence did not see all the bytes", "For inspect: `--digest`."),
        ("RGP-AGE-001", "unknown", "The evidence is too old, or its date cannot be right", "Run the verb again."),
        ("RGP-SEV-001", "high or unknown", "A finding graver than the policy tolerates", "Read the finding."),
        ("RGP-MSR-001", "unknown", "A quantity that was not measured under these conditions", "Measure it."),
        ("RGP-MSR-002", "high", "An interval that breaks a limit", ""),
        (
            "RGP-MSR-003",
            "unknown",
            "An interval that does not decide: the limit lies within, or an end is not known",
            "",
        ),
        ("RGP-MSR-004", "unknown", "A measurement in a unit that the limit cannot be converted to", "Mend the policy."),
        (
            "RGP-LIN-001",
            "unknown",
            "Evidence about what it was converted from does not count: verify does not tie the two",
            "Verify the conversion.",
        ),
        ("RGP-LIC-001", "high", "A stated licence that is not among those allowed", ""),
        ("RGP-LIC-002", "unknown", "A licence that is not known, or on which there is no evidence", "Inspect it."),
        ("RGP-CON-001", "unknown", "Evidence that contradicts other evidence of the same kind", "Find out which errs."),
        ("RGP-STO-001", "unknown", "A file of the store that cannot be read and may be about it", "`regraft doctor`"),
    ),
    "`regraft select` and `regraft adapt`": (
        ("RGA-DATA-001", "low", "Rows that stand there more than once; one of each is used", ""),
        ("RGA-DATA-002", "low", "Rows without an input or a label were left out", ""),
        ("RGA-DATA-003", "low", "Rows of another shape than the others were left out", "Look at how the table is cut."),
        ("RGA-DATA-004", "low", "Equal rows with contradicting labels; all of them were removed", "Look at them."),
        ("RGA-DATA-005", "info", "Rows, classes, and the share of the largest class", ""),
        ("RGA-DATA-006", "unknown", "All rows have one label", "Add rows of another class."),
        ("RGA-DATA-007", "unknown", "Too few rows of a class to learn from and to judge by", "Label more rows."),
        ("RGA-DATA-008", "low", "Rows with a label that the map does not name were left out", "Name it, or check it."),
        ("RGA-DATA-009", "low", "There are fewer rows than were asked for", ""),
        ("RGA-SEL-001", "info", "The candidate that is chosen, and why", ""),
        (
            "RGA-SEL-002",
            "info",
            "Candidates that cannot be told apart on these rows",
            "Label more rows, or take the cheaper.",
        ),
        ("RGA-SEL-003", "unknown", "A candidate that could not be judged: it crashed, hung or cannot run", "See why."),
        ("RGA-SEL-004", "info", "A candidate that breaks a constraint", ""),
        ("RGA-SEL-005", "unknown or info", "A constraint that could not be judged for a candidate", ""),
        ("RGA-SEL-006", "medium", "A trivial baseline is not beaten beyond noise", "Label more rows; look elsewhere."),
        ("RGA-SEL-007", "info", "What this comparison does not say", ""),
        ("RGA-SEL-008", "info", "How many labels a baseline would need to reach the candidate", ""),
        ("RGA-ADP-001", "medium", "The gain over the baseline is not beyond noise", "Label more rows."),
        ("RGA-ADP-002", "high", "The written package answers otherwise than what was learnt", "File an issue."),
        ("RGA-ADP-003", "info", "How well probabilities are calibrated", ""),
        ("RGA-ADP-004", "low", "No licence text was found in what was built on", "Ask its publisher."),
    ),
    "`regraft convert` and `regraft verify`": (
        ("divergence.beyond", "high", "An output differs by more than rounding explains", "Look at the layers named."),
        (
            "divergence.undecided",
            "unknown",
            "An output differs by more than benign, by less than a fault",
            "More feeds.",
        ),
        ("divergence.tolerance", "high", "An output is beyond the tolerance that you gave", ""),
        (
            "divergence.origin",
            "high or low",
            "Operators at which the candidate parts from the reference, and why; low when no output shows it",
            "See the cause, or reduce it: `--reduce DIR`.",
        ),
        ("divergence.reduced", "info", "Where the smallest case that still diverges was written, or why not", ""),
        ("divergence.unlocated", "info", "What the search for origins could not look at, or did not find", ""),
        ("divergence.layers", "info", "Why there is no divergence layer by layer", ""),
        ("precision.lowered", "unknown", "The candidate computes in less than was expected", "`--precision`"),
        ("precision.uncalibrated", "unknown", "No threshold was measured for this floor", "`--atol` and `--rtol`"),
        (
            "decisions.compared",
            "high, unknown or info",
            "Decisions on labelled rows: accuracy of both, its drop against the margin, McNemar's test",
            "More rows, or another `--margin`.",
        ),
        ("precision.needs_task_data", "unknown", "int8 is not judged by floors", "Give labelled rows: `--data`."),
        ("verify.memory", "unknown", "The comparison needs more memory than was allowed; how much would do", ""),
        (
            "verify.not_deterministic",
            "unknown",
            "One of the two answers otherwise to the same inputs",
            "A seed, no dropout.",
        ),
        ("feeds.lost_by_reference", "info", "Values that float64 has and the reference's own run has not", ""),
        ("verify.crashed", "unknown", "The process of an isolated comparison crashed, hung or ran out of memory", ""),
        (
            "feeds.unexercised",
            "unknown",
            "An output that is the same on all feeds: nothing was compared",
            "`--feeds` or `--texts`",
        ),
        (
            "feeds.coverage",
            "info",
            "Operators whose planted faults no feed shows, or why not",
            "`--feeds`",
        ),
        ("feeds.search", "info", "What a search for feeds that show more ended in", ""),
        ("verify.cannot_run", "unknown", "A model, or both on the same feeds, cannot be run", "See the message."),
        ("convert.failed", "unknown", "A converter failed", "See the message; another converter or target."),
        ("convert.fell_back", "info", "Another way was tried and given up", ""),
        (
            "convert.narrower",
            "medium",
            "The product is the same network at fewer sizes than the source takes",
            "Feed those sizes only, or convert for another target.",
        ),
        ("convert.output_lost", "high", "The product lacks an output, or an input, of the source", "Do not use it."),
        ("convert.not_here", "info", "A converter that could lead there cannot work here", "Install what it names."),
        ("convert.note", "info", "What the converter had to do besides", ""),
        ("weights.differs", "high", "A tensor that is not the same bits in the new container", "Do not use it."),
        (
            "weights.left_out",
            "unknown or info",
            "Entries of the source that are not in the new container; unknown where they may be weights",
            "Read what they are.",
        ),
        (
            "weights.converted",
            "info",
            "Tensors whose dtype the container lacks, or that were decoded: to which one",
            "",
        ),
        ("weights.renamed", "info", "Names that the container forbids: which stands for which", ""),
        ("weights.shared", "info", "Names of the same elements, and whether they still share them", ""),
        (
            "weights.unconfirmed",
            "info",
            "No library read the source beside Regraft: none is installed, or a pickle without a permit",
            "`regraft scan` first, with the same `--store`.",
        ),
    ),
    "`regraft bench`": (
        ("RGB-RUN-001", "unknown", "A model could not be measured", "See the message."),
        (
            "RGB-RUN-002",
            "medium",
            "The time of a pass had not settled when it was measured",
            "Measure on a quieter machine.",
        ),
        ("RGB-RUN-003", "low", "Fewer passes were timed than asked for", "Raise `--row-limit`."),
        ("RGB-RUN-004", "low", "Consecutive passes depend on each other: intervals are too narrow", "More `--starts`."),
        (
            "RGB-RUN-005",
            "medium",
            "The clock ran far longer than the processor computed",
            "Measure on a quieter machine.",
        ),
        ("RGB-INP-001", "info", "It was measured on made-up inputs", "`--texts` or `--feeds`"),
        ("RGB-ERR-001", "low", "A model is further from the first than rounding explains", "`regraft verify`"),
        ("RGB-ERR-002", "info", "A model could not be compared with the first", ""),
        ("RGB-NRG-001", "info", "Energy was not measured: the processor shows no counters", ""),
        (
            "RGB-PRD-001",
            "low",
            "A prediction for a described device was not checked here",
            "Two numbers of `--threads`.",
        ),
        ("RGB-PRD-002", "info", "Rows in less than float32 are not predicted", ""),
        ("RGB-PRD-003", "info", "Predictions missed on this machine; intervals are wider by that", ""),
        ("RGB-BUD-001", "info", "A limit of the device is met", ""),
        ("RGB-BUD-002", "high or medium", "A limit is missed: medium where another model or runtime meets it", ""),
        (
            "RGB-BUD-003",
            "unknown or low",
            "The interval lies on both sides of a limit, or it was not measured",
            "More runs.",
        ),
    ),
    "`regraft bundle`": (
        ("RGH-SCN-001", "high", "The newest scan of the package found danger: nothing was written", "A clean package."),
        ("RGH-EVD-001", "low", "The bundle carries no scan, or no verification", "`regraft scan`, `regraft verify`"),
        ("RGH-COD-001", "medium", "The bundle carries files that a loader may run", "Say so; `regraft convert`"),
        ("RGH-SCN-002", "medium", "The newest scan did not come to an end", "`regraft scan`"),
        ("RGH-PTH-001", "low", "Evidence that is carried names folders of this machine", "A new `--store`."),
        ("RGH-LIC-001", "low", "Nobody says which licence the package has", "Ask, before somebody uses it."),
    ),
    "`regraft inspect --fidelity`": (
        (
            "fidelity.layer_differs",
            "high",
            "A layer has other channels, another kernel, stride, dilation or number of groups than specified",
            "Take the weights of the right variant, or call the network what it is.",
        ),
        ("fidelity.layer_missing", "high", "A layer of the specification is not there", "As above."),
        ("fidelity.layer_extra", "high", "A layer is there that the specification does not have", "As above."),
        (
            "fidelity.layer_moved",
            "high",
            "A layer stands where what is computed has other extents: before a stride instead of after it",
            "Move the stride back; of a specification whose branches run in another order, state `multiply_adds`.",
        ),
        ("fidelity.is_another", "high", "All layers are those of another published architecture", "Call it that."),
        (
            "fidelity.input_size",
            "high",
            "The package prepares inputs of another size than the architecture was published for",
            "Use the published size, or state the other one.",
        ),
        ("fidelity.parameters", "low", "The layers agree, and the number of parameters does not", "Look at the norms."),
        ("fidelity.more", "info", "How many more layers differ than are listed", ""),
        ("fidelity.table", "info", "The layers of the network, in `data.layers`", ""),
        (
            "fidelity.cannot_list",
            "unknown",
            "The runtime shows no operators or strides, or nothing but a head could be compared",
            "Convert it to ONNX, and ask again.",
        ),
    ),
    "`regraft inspect --portability`": (
        ("portability.missing", "medium", "A runtime has not got an operator in a dtype", "Run it where it works."),
        (
            "portability.differs",
            "medium",
            "A runtime computes an operator otherwise, beyond what rounding explains",
            "`regraft verify` the whole model there before it is used.",
        ),
        (
            "portability.slow",
            "low",
            "An operator takes 3 times as long as elsewhere",
            "`regraft bench` the whole model.",
        ),
        ("portability.not_asked", "info", "An operator takes or makes texts, or lists of tensors", ""),
        ("portability.runtime", "info", "How many operators work in a runtime and dtype", ""),
        ("portability.table", "info", "Every operator in every runtime and dtype, in `data.probes`", ""),
        ("portability.undecided", "unknown", "There is nothing exact to compare an operator with", "`regraft verify`"),
        ("portability.cannot_list", "unknown", "The model shows no operators as ONNX", "Convert it to ONNX."),
    ),
    "`regraft reproduce`": (
        ("RGR-CLM-000", "info", "How closely claimed and measured agree", ""),
        ("RGR-CLM-001", "high", "The claim does not hold", ""),
        ("RGR-CLM-002", "unknown", "The sample is too small to decide", "Evaluate on more data."),
        ("RGR-CLM-003", "unknown", "The claim could not be evaluated", "See the message."),
        ("RGR-CLM-004", "info", "Repeated evaluations differ; the margin allows for it", ""),
    ),
    "`regraft run`": (
        ("RGR-RUN-001", "as its evidence", "What a step found out", ""),
        ("RGR-RUN-002", "varies", "A step that died or was refused", "See the message, and the step's log."),
        ("RGR-RUN-003", "varies", "A step that was not done, since one that it needs was not", ""),
        ("RGR-STEP-001", "unknown", "A step refused its input", "See the message."),
        ("RGR-STEP-002", "unknown", "A step met a fault of the program", "Its log has the traceback."),
        ("RGR-STEP-003", "unknown", "A step's process crashed", "Another runtime, or leave the candidate out."),
        ("RGR-STEP-004", "unknown", "A step took longer than it may", "`limits: {time: 30 min}` in the plan."),
        ("RGR-STEP-005", "unknown", "A step took more memory than it may", "`limits: {memory: 8 GB}` in the plan."),
    ),
    "`regraft doctor`": (
        ("RGD-ENV-001", "info", "Python", ""),
        ("RGD-ENV-002", "info", "The processor", ""),
        ("RGD-ENV-003", "low", "Bytecode is not kept: every start compiles again", "`unset PYTHONDONTWRITEBYTECODE`"),
        ("RGD-ENV-004", "info", "A program that is not on the path", "Install it if you need what it is for."),
        ("RGD-ENV-005", "info", "A program that is there", ""),
        ("RGD-BOX-001", "info", "The kernel cannot confine code of packages", "Linux 6.2 or newer, x86-64, can."),
        ("RGD-BOX-002", "info", "The kernel can confine code of packages", ""),
        ("RGD-STO-001", "high", "The store cannot be read", "See the message."),
        ("RGD-STO-002", "high", "The store cannot be written", "Name another with `--store`."),
        ("RGD-STO-003", "info", "The store works", ""),
        ("RGD-IDX-001", "medium", "The index cannot be used", "`regraft doctor --reindex`"),
        ("RGD-IDX-002", "medium", "Evidence files that cannot be used", "Restore them from a backup."),
        ("RGD-IDX-003", "info", "The index answers, or was rebuilt", ""),
        ("RGD-EXT-001", "info", "Run from source: what is optional is not recorded", ""),
        ("RGD-EXT-002", "info", "An extra that is not installed", "`pip install 'regraft[EXTRA]'`"),
        ("RGD-EXT-003", "info", "An extra that is installed", ""),
        ("RGD-RUN-001", "info", "A runtime that is not installed, or whose import was not tried", ""),
        ("RGD-RUN-002", "info", "A runtime that can be imported", ""),
        ("RGD-RUN-003", "medium", "A runtime whose import fails, crashes or hangs", "Install it again, by itself."),
        ("RGD-EVN-001", "info", "An environment of its own that was made", ""),
        ("RGD-EVN-002", "info", "An environment of its own that was not made", "`regraft doctor --environment NAME`"),
        ("RGD-CON-001", "info", "How many converters can work here", ""),
        ("RGD-CON-002", "info", "A converter without its library, environment or hardware", "The command it names."),
        ("RGD-CON-003", "info", "A form that can be made here, and that nothing here runs", ""),
        ("RGD-TRV-001", "info", "torch and torchvision are built for the same device", ""),
        ("RGD-TRV-002", "medium", "torchvision for CUDA beside torch for CPU: it cannot be imported", "Uninstall it."),
        ("RGD-PLG-001", "info", "A plug-in that can be loaded", ""),
        ("RGD-PLG-002", "medium", "A plug-in that cannot be loaded", "Update or remove it; other verbs go on."),
        ("RGD-GPU-001", "info", "No accelerator: everything runs on the CPU", ""),
        ("RGD-GPU-002", "low", "A driver that finds no usable device", ""),
        ("RGD-GPU-003", "info", "The accelerators that the driver names", ""),
        ("RGD-NET-001", "info", "A registry that answers", ""),
        ("RGD-NET-002", "medium", "A registry that cannot be reached", "Check the proxy; `--offline` goes on."),
    ),
    "any verb": (
        ("RGE-NUM-001", "unknown", "A number that is not finite: null stands in its place", "Look at how it came."),
    ),
}
"""Where it comes from → (id, severity, what was found, what to do). A test holds it to the ids in the code."""


def rules_page() -> str:
    """Every rule: tables, then a section a rule of scan."""
    rules = list(all_rules())
    return "\n".join(
        [
            "# Rules",
            "",
            "Generated by `make reference`; the rules of scan come from `src/regraft/trust/scan/`.",
            "",
            "Severity decides the verdict: `critical` and `high` fail, `unknown` is inconclusive, the rest are notes.",
            "",
            "## Of `regraft scan`",
            "",
            "An inconclusive finding that you have reviewed can be allowed: `--allow module.name` (a global),",
            "`--allow RGS-XXX-000` (a rule) or `--allow RGS-XXX-000:path/in/package` (a rule in one file).",
            "What is dangerous cannot be allowed.",
            "",
            "| rule | severity | what was found |",
            "|---|---|---|",
            *(f"| [{rule.id}](#{rule.id.lower()}) | {rule.severity} | {_cell(rule.title)} |" for rule in rules),
            "",
            *_tables(),
            *_sections(rules),
        ]
    )


def _tables() -> Iterable[str]:
    for origin, rules in OTHER_RULES.items():
        yield from (f"## Of {origin}", "", "| rule | severity | what was found | what to do |", "|---|---|---|---|")
        yield from (f"| {rule} | {severity} | {found} | {do} |" for rule, severity, found, do in rules)
        yield ""


def _sections(rules: Iterable[Rule]) -> Iterable[str]:
    for rule in rules:
        yield f"## {rule.id}"
        yield ""
        yield f"**{rule.title}** ({rule.severity}: the package {_RESULT[Severity(rule.severity).verdict]})"
        yield ""
        yield f"*Why it matters.* {rule.why}"
        yield ""
        yield f"*What to do.* {rule.fix}"
        yield ""
        if rule.cwe is not None:
            yield f"*Weakness.* [CWE-{rule.cwe}](https://cwe.mitre.org/data/definitions/{rule.cwe}.html)"
            yield ""


def _cell(text: str) -> str:
    return text.replace("|", "\\|")
