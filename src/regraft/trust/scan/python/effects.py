"""Which calls reach beyond a computation: processes, evaluated text, native code, network, files."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from enum import StrEnum

import msgspec

from regraft.trust.scan.python.names import Names


class Kind(StrEnum):
    """What an effect does to the machine it runs on."""

    SHELL = "runs a shell command"
    PROCESS = "starts a process"
    EVALUATE = "evaluates text as code"
    EVALUATE_NAME = "evaluates a text that it is given"
    DECODE = "runs code that it decodes first"
    NATIVE = "calls native code"
    NETWORK = "uses the network"
    DELETE = "deletes or replaces files"
    WRITE = "writes a file"
    WRITE_OUTSIDE = "writes a file outside of the package"
    SECRETS = "touches a place where secrets are kept"
    UNPICKLE = "deserialises objects, which may run code"
    REMOTE = "fetches and runs code of a repository"
    HOOK = "changes what other code does"
    DYNAMIC = "calls something that cannot be told from the text"


class Effect(msgspec.Struct, frozen=True):
    """One such call: what it is, the dotted name, the text of the call, the line."""

    kind: Kind
    name: str
    text: str
    line: int


_TABLE: dict[str, Kind] = {
    **dict.fromkeys(
        "os.system os.popen os.popen2 os.popen3 os.popen4 os.startfile pty.spawn subprocess.getoutput "
        "subprocess.getstatusoutput commands.getoutput commands.getstatusoutput platform.popen "
        "asyncio.create_subprocess_shell code.interact code.InteractiveConsole popen2.popen3 "
        "IPython.get_ipython().system distutils.spawn.spawn".split(),
        Kind.SHELL,
    ),
    **dict.fromkeys(
        "subprocess.run subprocess.call subprocess.check_call subprocess.check_output subprocess.Popen os.fork "
        "os.forkpty os.posix_spawn os.posix_spawnp asyncio.create_subprocess_exec pip.main pip._internal.main "
        "pip._internal.cli.main.main ensurepip.bootstrap runpy.run_path runpy.run_module webbrowser.open "
        "pexpect.spawn pexpect.run sh.bash sh.sh multiprocessing.util.spawnv_passfds _posixsubprocess.fork_exec "
        "fabric.Connection invoke.run plumbum.local".split(),
        Kind.PROCESS,
    ),
    **dict.fromkeys(
        "builtins.eval builtins.exec builtins.execfile codeop.compile_command timeit.timeit cProfile.run profile.run "
        "bdb.Bdb().run pdb.run code.InteractiveInterpreter numexpr.evaluate pandas.eval trace.Trace().run "
        "doctest.debug_src".split(),
        Kind.EVALUATE,
    ),
    **dict.fromkeys(
        "marshal.loads marshal.load types.CodeType types.FunctionType zipimport.zipimporter imp.load_source "
        "imp.load_compiled imp.load_dynamic importlib.machinery.SourceFileLoader "
        "importlib.machinery.ExtensionFileLoader importlib.machinery.SourcelessFileLoader".split(),
        Kind.DECODE,
    ),
    **dict.fromkeys(
        "ctypes.CDLL ctypes.PyDLL ctypes.WinDLL ctypes.OleDLL ctypes.cdll ctypes.windll ctypes.pythonapi "
        "ctypes.util.find_library cffi.FFI().dlopen torch.ops.load_library torch.classes.load_library "
        "tensorflow.load_op_library tensorflow.load_library torch.utils.cpp_extension.load "
        "torch.utils.cpp_extension.load_inline cppyy.cppdef".split(),
        Kind.NATIVE,
    ),
    **dict.fromkeys(
        "os.remove os.unlink os.rmdir os.removedirs shutil.rmtree shutil.move os.rename os.replace os.truncate "
        "os.chmod os.chown os.symlink os.link os.kill os.killpg send2trash.send2trash".split(),
        Kind.DELETE,
    ),
    **dict.fromkeys(
        "pickle.load pickle.loads pickle.Unpickler _pickle.load _pickle.loads cPickle.load cPickle.loads dill.load "
        "dill.loads cloudpickle.load cloudpickle.loads joblib.load shelve.open jsonpickle.decode yaml.unsafe_load "
        "yaml.full_load pandas.read_pickle torch.load".split(),
        Kind.UNPICKLE,
    ),
    **dict.fromkeys("torch.hub.load torch.hub.load_local kernels.get_kernel".split(), Kind.REMOTE),
    **dict.fromkeys(
        "sys.settrace sys.setprofile sys.addaudithook threading.settrace sys.meta_path.insert sys.meta_path.append "
        "sys.path_hooks.append sys.path_hooks.insert gc.get_objects gc.get_referrers".split(),
        Kind.HOOK,
    ),
}
_PREFIXES: tuple[tuple[str, Kind], ...] = (
    ("os.exec", Kind.SHELL),
    ("os.spawn", Kind.SHELL),
    *((f"{module}.", Kind.NETWORK) for module in ("socket", "requests", "httpx", "aiohttp", "urllib3", "paramiko")),
    *((f"{module}.", Kind.NETWORK) for module in ("ftplib", "smtplib", "telnetlib", "websocket", "websockets")),
    *((f"{name}", Kind.NETWORK) for name in ("urllib.request.urlopen", "urllib.request.urlretrieve")),
    *((f"{name}", Kind.NETWORK) for name in ("urllib.request.build_opener", "http.client.HTTP", "xmlrpc.client.")),
    *((f"{name}", Kind.NETWORK) for name in ("wget.download", "gdown.", "pycurl.", "urllib2.", "dns.resolver.")),
    ("builtins.<namespace>.", Kind.DYNAMIC),
)
_HARMLESS = re.compile(
    r"(socket\.(gethostname|AF_|SOCK_|error|timeout|getdefaulttimeout)|requests\.(exceptions|adapters|Session$|Response)"
    r"|httpx\.(HTTPError|Timeout|Response|AsyncClient$|Client$|Limits)|aiohttp\.Client(Error|Response|Timeout)"
    r"|urllib3\.(exceptions|disable_warnings|util)|paramiko\.\w*Exception|websockets\.exceptions)"
)
_DECODERS = ("b64decode", "b32decode", "b16decode", "b85decode", "a85decode", "decompress", "fromhex", "unhexlify")
_WRITERS = ("write_text", "write_bytes", "unlink", "rmdir", "touch", "symlink_to", "hardlink_to")
_SHELL_TEXT = re.compile(
    r"\b(curl|wget|nc|ncat|bash|sh|zsh|powershell|pwsh|cmd(\.exe)?|certutil|mshta|chmod|crontab|base64|python3?\s+-c"
    r"|perl\s+-e|rm\s+-rf|ssh|scp|telnet|whoami|useradd|osascript)\b|/dev/(tcp|udp)/|\|\s*sh\b|>\s*/etc/"
)
_SECRETS = re.compile(
    r"(/|^|~)\.(ssh|aws|gnupg|netrc|kube|docker/config|git-credentials|bash_history|pypirc|npmrc)\b"
    r"|/etc/(passwd|shadow|sudoers|cron)|id_rsa|id_ed25519|\.bashrc|\.profile\b|wallet\.dat|/proc/self/(environ|mem)"
    r"|169\.254\.169\.254|Login Data|\.huggingface/token"
)
_OUTSIDE = re.compile(r"^(/|~|[A-Za-z]:[\\/]|\\\\)|(^|[/\\])\.\.([/\\]|$)")


def effects_in(nodes: list[ast.AST], names: Names) -> Iterator[Effect]:
    """The effects of a set of syntax nodes, none of which is searched below itself.

    A mention counts like a call: `map(os.system, …)` and a `__reduce__` that returns `os.system` run it too.
    """
    funcs = {id(node.func) for node in nodes if isinstance(node, ast.Call)}
    inner = {id(node.value) for node in nodes if isinstance(node, ast.Attribute)}
    for node in nodes:
        if isinstance(node, ast.Call):
            yield from _of_call(node, names)
        elif isinstance(node, ast.Attribute) and node.attr == "__subclasses__" and _climbs(node.value):
            yield Effect(Kind.DECODE, "object.__subclasses__", _text(node), node.lineno)
        elif isinstance(node, ast.Name | ast.Attribute | ast.Subscript) and id(node) not in inner:
            if id(node) not in funcs and isinstance(node.ctx, ast.Load):
                yield from _of_mention(node, names)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and len(node.value) < 300:
            if _SECRETS.search(node.value) and not re.search(r"\s", node.value):
                yield Effect(Kind.SECRETS, node.value[:80], repr(node.value[:80]), node.lineno)
        elif isinstance(node, ast.Assign | ast.Delete):
            yield from _of_assignment(node, names)


def _climbs(node: ast.expr) -> bool:
    """Does this expression climb to `object` through the type of some value?"""
    climbing = ("__base__", "__bases__", "__mro__", "mro")
    return any(isinstance(inner, ast.Attribute) and inner.attr in climbing for inner in ast.walk(node))


def _of_call(node: ast.Call, names: Names) -> Iterator[Effect]:
    for path in sorted(names.resolve(node.func)):
        kind = kind_of(path)
        if path.endswith(".__init_subclass__"):
            kind = None  # a base class is named, not called
        elif path in ("builtins.eval", "builtins.exec"):
            kind = _evaluation(node, names)
            if kind is Kind.EVALUATE and path == "builtins.eval" and _is_given(node):
                kind = Kind.EVALUATE_NAME
        elif kind is Kind.UNPICKLE and path.endswith(".loads") and _is_decoded(node, names):
            kind = Kind.DECODE
        elif kind is Kind.PROCESS and path.startswith("subprocess."):
            kind = _process(node, names)
        elif path == "torch.load" and _keyword(node, "weights_only", names) is True:
            kind = None
        elif path in ("builtins.open", "io.open", "os.open", "codecs.open"):
            kind = _opening(node, names)
        elif path.endswith(_WRITERS) and "." in path:
            kind = _path_writing(node, names)
        elif path.endswith((".shell_exec", ".getoutput")) or path == "yaml.load":
            kind = _yaml(node, names) if path == "yaml.load" else Kind.SHELL
        elif "<dynamic>" in path:
            kind = Kind.DYNAMIC
        if kind is not None:
            yield Effect(kind, path.removeprefix("builtins."), _text(node), node.lineno)
            return


def _of_mention(node: ast.expr, names: Names) -> Iterator[Effect]:
    for path in sorted(names.resolve(node)):
        kind = kind_of(path)
        if path.startswith("types."):
            continue  # asked for in isinstance() far more often than called
        if kind in (Kind.SHELL, Kind.PROCESS, Kind.EVALUATE, Kind.DECODE, Kind.DELETE, Kind.NATIVE):
            yield Effect(kind, path.removeprefix("builtins."), _text(node), node.lineno)
            return


def _of_assignment(node: ast.Assign | ast.Delete, names: Names) -> Iterator[Effect]:
    for target in node.targets:
        if isinstance(target, ast.Attribute):
            for path in names.resolve(target):
                if path.startswith(("builtins.", "pickle.", "torch.load", "importlib.", "sys.modules", "sys.stdout.")):
                    yield Effect(Kind.HOOK, path, _text(target), target.lineno)
        elif isinstance(target, ast.Subscript) and "sys.modules" in names.resolve(target.value):
            yield Effect(Kind.HOOK, "sys.modules", _text(target), target.lineno)


def kind_of(path: str) -> Kind | None:
    """The kind of effect that calling this dotted path has; None for none that is known."""
    exact = _TABLE.get(path)
    if exact is not None:
        return exact
    if path.startswith("ctypes.") and path.split(".")[1] in ("cdll", "windll", "pythonapi"):
        return Kind.NATIVE
    kind = next((kind for prefix, kind in _PREFIXES if path.startswith(prefix)), None)
    if kind is Kind.NETWORK and (_HARMLESS.match(path) or path.endswith(("Error", "Exception"))):
        return None
    return kind


def _evaluation(node: ast.Call, names: Names) -> Kind | None:
    if not node.args:
        return Kind.EVALUATE
    text = names.fold(node.args[0])
    if isinstance(text, str | bytes) and isinstance(node.args[0], ast.Constant):
        return _literal_evaluation(text)
    if text is not None:
        return Kind.DECODE
    return Kind.DECODE if _is_decoded(node, names) else Kind.EVALUATE


def _is_given(node: ast.Call) -> bool:
    """`eval(config.activation)`: how many networks turn a name in their configuration into a class."""
    return bool(node.args) and isinstance(node.args[0], ast.Name | ast.Attribute | ast.Subscript)


def _is_decoded(node: ast.Call, names: Names) -> bool:
    """Is the first argument spelled out in the source in a coded form, or fetched from the network?"""
    if not node.args:
        return False
    if names.fold(node.args[0]) is not None:
        return True
    for inner in ast.walk(node.args[0]):
        if isinstance(inner, ast.Call):
            for path in names.resolve(inner.func):
                if path.endswith(_DECODERS) or path.startswith(("marshal.", "codecs.decode", "urllib.", "requests.")):
                    return True
    return False


def _literal_evaluation(text: str | bytes) -> Kind | None:
    """Text that stands there in full is judged by what it says."""
    from regraft.errors import Damaged
    from regraft.trust.scan.python.names import parse

    try:
        tree = parse(text, where="evaluated text")
    except Damaged:
        return Kind.EVALUATE
    inner = list(effects_in(list(ast.walk(tree)), Names(tree)))
    return inner[0].kind if inner else None


def _process(node: ast.Call, names: Names) -> Kind:
    if _keyword(node, "shell", names) is True:
        return Kind.SHELL
    words: list[object] = []
    first = node.args[0] if node.args else None
    if isinstance(first, ast.List | ast.Tuple):
        words = [names.fold(item) for item in first.elts]
    elif first is not None:
        words = [names.fold(first)]
    command = " ".join(word for word in words if isinstance(word, str))
    return Kind.SHELL if _SHELL_TEXT.search(command) else Kind.PROCESS


def _opening(node: ast.Call, names: Names) -> Kind | None:
    mode = names.fold(node.args[1]) if len(node.args) > 1 else _keyword(node, "mode", names)
    if len(node.args) > 1 and not isinstance(mode, str):
        return None
    if not isinstance(mode, str) or not set(mode) & set("wax+"):
        return None
    path = names.fold(node.args[0]) if node.args else None
    return Kind.WRITE_OUTSIDE if isinstance(path, str) and _OUTSIDE.search(path) else Kind.WRITE


def _path_writing(node: ast.Call, names: Names) -> Kind:
    owner = node.func.value if isinstance(node.func, ast.Attribute) else None
    if not isinstance(owner, ast.Call):
        return Kind.WRITE
    path = names.fold(owner.args[0]) if owner.args else None
    at_home = any(found.endswith((".home()", ".expanduser()")) for found in names.resolve(owner))
    return Kind.WRITE_OUTSIDE if at_home or (isinstance(path, str) and _OUTSIDE.search(path)) else Kind.WRITE


def _yaml(node: ast.Call, names: Names) -> Kind | None:
    safe = {"yaml.SafeLoader", "yaml.CSafeLoader", "yaml.BaseLoader"}
    loaders = [*node.args[1:2], *(k.value for k in node.keywords if k.arg == "Loader")]
    return None if any(names.resolve(loader) & safe for loader in loaders) else Kind.UNPICKLE


def _keyword(node: ast.Call, name: str, names: Names) -> object:
    value = next((k.value for k in node.keywords if k.arg == name), None)
    return names.fold(value)


def _text(node: ast.AST) -> str:
    try:
        text = ast.unparse(node)
    except (RecursionError, ValueError):
        return type(node).__name__
    return text if len(text) <= 160 else text[:159] + "…"
