"""What a name does when a pickle calls it: names that run code or touch the machine, by effect.

Matching is by every suffix of the dotted path, with leading underscores of its parts ignored, so that re-exports
(`torch.serialization.os.system`, `collections._sys.modules`) are seen as what they are.
"""

from __future__ import annotations

import functools
import re


def _words(text: str) -> list[str]:
    return text.split()


EFFECTS: dict[str, str] = {
    "runs a program": (
        "os.system os.popen* os.exec* os.spawn* os.posix_spawn* os.startfile os.fork* os.kill os.killpg "
        "subprocess.* _posixsubprocess.* _winapi.* pty.* popen2.* commands.getoutput commands.getstatusoutput "
        "platform.popen platform._syscmd_ver asyncio.create_subprocess_* asyncio.subprocess.* "
        "asyncio.base_subprocess.* asyncio.unix_events.* multiprocessing.* webbrowser.* antigravity.* "
        "uuid._get_command_stdout uuid._popen distutils.spawn.* distutils.command.* setuptools.* pip.* "
        "ensurepip.* venv.* test.support.* numpy.distutils.* torch.utils.cpp_extension.* "
        "torch.utils.collect_env.* torch.utils.bottleneck.* torch.distributed.run.* "
        "torch.distributed.launch.* torch.distributed.elastic.* torch.multiprocessing.* torch._inductor.* "
        "ctypes.* _ctypes.* cffi.* mailcap.* imaplib.IMAP4_stream pydoc.* idlelib.* turtledemo.* git.* sh.* "
        "pipes.* _posixshmem.* _osx_support.* _aix_support.* _pyrepl.* paramiko.* fabric.* invoke.* pexpect.* "
        "plumbum.* Cython.Build.* scipy.weave.* sysconfig._main "
        "signal.*"
    ),
    "runs Python code": (
        "_interpreters.* _xxsubinterpreters.* _xxinterpchannels.* builtins.eval builtins.exec builtins.execfile "
        "builtins.compile builtins.breakpoint builtins.input "
        "builtins.__build_class__ code.interact code.InteractiveInterpreter* code.InteractiveConsole* "
        "code.compile_command codeop.* types.CodeType types.FunctionType types.LambdaType runpy.* timeit.* "
        "cProfile.* profile.run* profile.Profile* trace.Trace* pdb.* bdb.* doctest.* unittest.* lib2to3.* "
        "sched.* threading.* _thread.* atexit.* weakref.finalize logging.config.* cgitb.* site.* "
        "sitecustomize.* usercustomize.* rlcompleter.* readline.* tkinter.* IPython.* ipykernel.* pytest.* "
        "hypothesis.* xmlrpc.* socketserver.* numpy.testing.* numpy.f2py.* numpy.lib.utils.safe_eval "
        "numpy.ctypeslib.* pandas.eval pandas.core.computation.* numexpr.* sympy.parsing.* "
        "sympy.core.sympify.* sympy.utilities.lambdify.* numba.core.* torch.jit.unsupported_tensor_ops.* "
        "torch.jit.frontend.* torch.jit._script.* torch.jit.script torch.jit.load torch.fx.graph.* "
        "torch.fx.graph_module.* torch.fx.experimental.* torch._dynamo.* torch._functorch.* "
        "torch.utils._config_module.* torch.utils.data.datapipes.utils.decoder.* torch.testing._internal.* "
        "torch.package.* torch.library.* torch.ops.* torch.classes.* torch.hub.* torch.utils.model_zoo.* "
        "torch._lazy.* torch._export.* torch.export.* torch.distributed.rpc.* torch.ao.ns.* torch.overrides.* "
        "jinja2.* mako.* ast.literal_eval tensorflow.py_function tensorflow.numpy_function IPython.* "
        "ptpython.* dataclasses.make_dataclass dataclasses._create_fn nltk.app.* ansible.* celery.*"
    ),
    "imports a module of the stream's choice": (
        "builtins.__import__ importlib.* _frozen_importlib.* _frozen_importlib_external.* imp.* pkgutil.* "
        "zipimport.* sys.* modulefinder.* pkg_resources.* "
        "hydra.utils.* hydra._internal.* torch._utils._import_dotted_name transformers.dynamic_module_utils.* "
        "cloudpickle.subimport cloudpickle.cloudpickle.subimport cloudpickle.cloudpickle_fast.subimport "
        "dill._dill._import_module dill._dill._load_module six._import_module django.utils.module_loading.* "
        "werkzeug.utils.import_string"
    ),
    "reads or writes attributes by name": (
        "builtins.getattr builtins.setattr builtins.delattr builtins.vars builtins.globals builtins.locals "
        "builtins.dir builtins.super builtins.classmethod builtins.property types.MethodType "
        "operator.attrgetter operator.methodcaller operator.setitem operator.delitem operator.call "
        "dill._dill._getattribute dill._dill._get_attr inspect.* gc.*"
    ),
    "unpickles other bytes": (
        "pickle.* cPickle.* _pickle.* dill.load dill.loads dill._dill.load dill._dill.loads cloudpickle.load "
        "cloudpickle.loads shelve.* marshal.* joblib.load joblib.numpy_pickle.load "
        "joblib.numpy_pickle.NumpyUnpickler joblib.numpy_pickle_compat.load_compatibility "
        "joblib.numpy_pickle_compat.ZipNumpyUnpickler numpy.load numpy.loads numpy.lib.npyio.load "
        "numpy.lib._npyio_impl.load numpy.lib.format.read_array torch.load torch.serialization.load "
        "torch.serialization._load torch.serialization._legacy_load pandas.read_pickle pandas.io.pickle.* "
        "pandas.compat.pickle_compat.* jsonpickle.* sklearn.externals.joblib.load multiprocessing.reduction.* "
        "copyreg.add_extension copyreg.pickle copyreg.constructor yaml.load yaml.unsafe_load yaml.full_load "
        "yaml.load_all yaml.unsafe_load_all keras.models.load_model skops.io.load transformers.pipeline "
        "transformers.pipelines.pipeline datasets.load_dataset datasets.load.load_dataset mlflow.pyfunc.load_model "
        "spacy.load"
    ),
    "reads, writes or deletes files": (
        "builtins.open io.open io.FileIO io.open_code codecs.open os.* posix.* nt.* posixpath.* ntpath.* "
        "shutil.* tempfile.* fileinput.* glob.* linecache.* zipfile.* tarfile.* gzip.* bz2.open bz2.BZ2File "
        "lzma.open lzma.LZMAFile sqlite3.* dbm.* mmap.* pathlib.Path.* pathlib.PosixPath.* "
        "pathlib.WindowsPath.* numpy.save* numpy.fromfile numpy.memmap numpy.core.multiarray.fromfile "
        "numpy._core.multiarray.fromfile numpy.ndarray.tofile numpy.ndarray.dump numpy.loadtxt "
        "numpy.genfromtxt numpy.DataSource numpy.lib.npyio.DataSource numpy.core.memmap.memmap "
        "numpy._core.memmap.memmap numpy.lib._datasource.* joblib.dump joblib.memory.* torch.save "
        "torch.serialization.save torch.from_file torch.storage.UntypedStorage.from_file "
        "torch.storage.UntypedStorage._new_shared_filename* distutils.file_util.* distutils.dir_util.* "
        "logging.FileHandler logging.basicConfig logging.handlers.* py_compile.* compileall.* netrc.* pwd.* "
        "spwd.* configparser.* filecmp.* msilib.* winreg.* _winreg.* tensorflow.io.* tensorflow.raw_ops.* "
        "h5py.File"
    ),
    "opens a network connection": (
        "socket.* _socket.* ssl.* _ssl.* http.* httplib.* urllib.* urllib2.* urllib3.* requests.* httpx.* "
        "aiohttp.* ftplib.* smtplib.* smtpd.* poplib.* imaplib.* nntplib.* telnetlib.* asyncio.* asyncore.* "
        "asynchat.* nturl2path.* huggingface_hub.* fsspec.* boto3.* s3fs.* gcsfs.* websocket.* websockets.* "
        "pycurl.* scapy.* twisted.* tornado.* flask.* bottle.* nltk.download nltk.downloader.* wsgiref.* "
        "pip._vendor.* sklearn.datasets._base._fetch_remote sklearn.datasets._openml.*"
    ),
}
"""Effect → paths; `x.*` is everything below `x`, a trailing `*` a prefix."""

CALLERS = frozenset(
    _words(
        "functools.partial functools.reduce functools.partialmethod functools.singledispatch builtins.map "
        "builtins.filter builtins.sorted builtins.max builtins.min builtins.iter itertools.starmap "
        "itertools.accumulate itertools.filterfalse itertools.takewhile itertools.dropwhile "
        "itertools.groupby builtins.zip builtins.any builtins.all builtins.type"
    )
)
"""What calls its arguments, now or later: harmless by itself, never on the allow-list."""

_TELLTALE_NAMES: dict[str, str] = {
    **dict.fromkeys(
        _words(
            "system popen Popen execv execve execvp execl execlp spawnl spawnv spawnlp check_output check_call "
            "getoutput getstatusoutput posix_spawn create_subprocess_shell create_subprocess_exec fork_exec shell_exec"
        ),
        "runs a program",
    ),
    **dict.fromkeys(
        _words("eval exec execfile exec_ runstring run_code run_path runcode runsource"), "runs Python code"
    ),
    **dict.fromkeys(_words("__import__ import_module _import_dotted_name load_module exec_module"), "imports a module"),
    **dict.fromkeys(_words("getattr setattr attrgetter methodcaller __getattribute__"), "reads attributes by name"),
    **dict.fromkeys(_words("rmtree unlink"), "reads, writes or deletes files"),
    **dict.fromkeys(_words("urlopen urlretrieve"), "opens a network connection"),
}
_REACHING = frozenset(
    _words(
        "__globals__ __builtins__ __subclasses__ __class__ __bases__ __base__ __mro__ __code__ __closure__ __dict__ "
        "__getattribute__ __getattr__ __setattr__ __delattr__ __func__ __self__ __wrapped__ __loader__ __spec__ "
        "__init_subclass__ __reduce__ __reduce_ex__ __call__ __func__ __defaults__ __kwdefaults__ __import__ "
        "f_globals f_builtins f_locals gi_frame tb_frame cr_frame gi_code mro"
    )
)
_PYTHON2 = {"__builtin__": "builtins", "copy_reg": "copyreg", "__builtins__": "builtins"}
_MODULES = frozenset(
    _words(
        "os sys subprocess builtins importlib pickle marshal socket shutil ctypes pty runpy posix nt cPickle imp "
        "multiprocessing"
    )
)
_ALIASES = re.compile(
    r"^(six\.moves|sklearn\.externals\.six\.moves|future|past|eventlet\.green|gevent\.monkey|ray(?=\.cloudpickle)"
    r"|[\w.]+\.(_?vendor(ed)?|externals?|extern|thirdparty|third_party))\.(?=\w+\.)"
)
"""Ways to other libraries: compatibility layers, and copies that libraries carry."""


@functools.cache
def _tables() -> tuple[dict[str, str], dict[str, str], dict[str, str]]:
    """Exact paths, modules, prefixes: each with its effect."""
    exact: dict[str, str] = {}
    modules: dict[str, str] = {}
    prefixes: dict[str, str] = {}
    for effect, paths in EFFECTS.items():
        for path in paths.split():
            if path.endswith(".*"):
                modules.setdefault(_bare(path[:-2]), effect)
            elif path.endswith("*"):
                prefixes.setdefault(_bare(path[:-1]), effect)
            else:
                exact.setdefault(_bare(path), effect)
    return exact, modules, prefixes


def _bare(path: str) -> str:
    """Without the leading underscores of parts that are private aliases; dunder names stay."""
    return ".".join(part if part.startswith("__") else part.lstrip("_") for part in path.split("."))


def danger_of(module: str | None, name: str | None) -> str | None:
    """The effect of calling a global by the lists above, None when it is not known to be dangerous.

    Args:
        module, name: as in `Global`; `name` may be dotted.
    """
    if not module or not name:
        return None
    return _danger_of_path(f"{_PYTHON2.get(module, module)}:{name}")


@functools.lru_cache(maxsize=4096)
def _danger_of_path(path: str) -> str | None:
    module, _, name = path.partition(":")
    path = _ALIASES.sub("", f"{module}.{name}")
    names = name.split(".")
    if any(part in _REACHING for part in names):
        return "reaches into the interpreter by an attribute"
    if _bare(names[-1]) in _MODULES:
        return "hands out a module that can do anything"
    tails = [path, *(".".join(names[start:]) for start in range(len(names)) if _bare(names[start]) in _MODULES)]
    for tail in tails:
        effect = _listed(_bare(tail))
        if effect is not None:
            return effect
    return _TELLTALE_NAMES.get(names[-1])


def _listed(path: str) -> str | None:
    exact, modules, prefixes = _tables()
    if path in exact:
        return exact[path]
    found = next((effect for prefix, effect in prefixes.items() if path.startswith(prefix)), None)
    if found is not None:
        return found
    parts = path.split(".")
    below = (".".join(parts[:length]) for length in range(len(parts) - 1, 0, -1))
    return next((modules[module] for module in below if module in modules), None)
