"""Functions that published bypasses and denylists name: each called by a pickle, in one of ten ways of writing it."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator

from tests.trust.corpus import Sample
from tests.trust.corpus.opcodes import COMMAND, call, framed, list_of, name, old_name, stream, text, tuple_of, value

_PUBLISHED: dict[str, str] = {
    "picklescan": (
        "os.system posix.system nt.system subprocess.Popen subprocess.call subprocess.check_output builtins.eval "
        "builtins.exec builtins.compile builtins.open builtins.breakpoint __builtin__.apply commands.getoutput "
        "runpy._run_code runpy.run_path runpy.run_module shutil.rmtree shutil.copyfile socket.create_connection "
        "ssl.get_server_certificate sys.exit pty.spawn pip.main pip._internal.main pdb.run bdb.Bdb.run timeit.timeit "
        "venv.create webbrowser.open asyncio.unix_events._UnixSubprocessTransport._start cProfile.run cProfile.runctx "
        "code.InteractiveInterpreter.runcode doctest.debug_script ensurepip._run_pip "
        "idlelib.autocomplete.AutoComplete.get_entity idlelib.autocomplete.AutoComplete.fetch_completions "
        "idlelib.calltip.Calltip.fetch_tip idlelib.calltip.get_entity idlelib.debugobj.ObjectTreeItem.SetText "
        "idlelib.pyshell.ModifiedInterpreter.runcode idlelib.pyshell.ModifiedInterpreter.runcommand "
        "idlelib.run.Executive.runcode "
        "lib2to3.pgen2.grammar.Grammar.loads lib2to3.pgen2.pgen.ParserGenerator.make_label "
        "profile.Profile.run profile.Profile.runctx trace.Trace.run trace.Trace.runctx pydoc.locate pydoc.pipepager "
        "numpy.f2py.crackfortran.getlincoef numpy.f2py.crackfortran._eval_length numpy.f2py.crackfortran.param_eval "
        "numpy.testing._private.utils.runstring torch._dynamo.guards.GuardBuilder.get "
        "torch._inductor.codecache.compile_file "
        "torch.fx.experimental.symbolic_shapes.ShapeEnv.evaluate_guards_expression "
        "torch.jit.unsupported_tensor_ops.execWrapper torch.serialization.load "
        "torch.utils._config_module.ConfigModule.load_config torch.utils.bottleneck.__main__.run_cprofile "
        "torch.utils.bottleneck.__main__.run_autograd_prof torch.utils.collect_env.run "
        "torch.utils.data.datapipes.utils.decoder.basichandlers pkgutil.resolve_name uuid._get_command_stdout "
        "_osx_support._read_output _osx_support._find_build_tool "
        "_aix_support._read_cmd_output _pyrepl.pager.pipe_pager "
        "imaplib.IMAP4_stream test.support.script_helper.assert_python_ok logging.FileHandler _io.FileIO "
        "cloudpickle.cloudpickle._make_function cloudpickle.cloudpickle.subimport distutils.file_util.write_file "
        "types.CodeType urllib.request.urlopen urllib.request.urlretrieve aiohttp.client.ClientSession "
        "requests.api.get httplib.HTTPSConnection _pickle.loads pickle.loads pickle.load operator.methodcaller "
        "operator.attrgetter _operator.attrgetter"
    ),
    "fickling": (
        "marshal.loads types.FunctionType ctypes.CDLL ctypes.cdll.LoadLibrary importlib.import_module "
        "importlib.machinery.SourceFileLoader multiprocessing.util.spawnv_passfds _posixsubprocess.fork_exec "
        "site.addsitedir site.addpackage atexit.register _interpreters.create _interpreters.run_string "
        "_xxsubinterpreters.run_string imp.load_source zipimport.zipimporter unittest.mock._importer gc.get_objects "
        "inspect.getattr_static signal.signal threading.Thread _thread.start_new_thread sqlite3.connect "
        "linecache.getlines fileinput.input glob.glob compileall.compile_dir py_compile.compile mmap.mmap "
        "tarfile.open zipfile.ZipFile shelve.open pexpect.spawn pexpect.run pipes.Template smtplib.SMTP "
        "ftplib.FTP telnetlib.Telnet nntplib.NNTP poplib.POP3 xmlrpc.client.ServerProxy socketserver.TCPServer "
        "platform.popen tempfile.NamedTemporaryFile code.InteractiveConsole codeop.compile_command "
        "_frozen_importlib._gcd_import _frozen_importlib_external.SourceFileLoader _imp.create_dynamic _ctypes.dlopen "
        "builtins.__import__ builtins.globals builtins.delattr builtins.setattr"
    ),
    "modelscan, modelaudit": (
        "dill.loads dill._dill.loads cloudpickle.loads joblib.load joblib.numpy_pickle.load pandas.read_pickle "
        "pandas.io.pickle.read_pickle pandas.eval numpy.load numpy.lib.npyio.load torch.load torch.hub.load "
        "torch.hub.load_state_dict_from_url torch.package.PackageImporter torch.ops.load_library "
        "torch.classes.load_library tensorflow.io.read_file tensorflow.io.write_file tensorflow.py_function "
        "tensorflow.keras.models.load_model keras.models.load_model keras.utils.get_file yaml.unsafe_load "
        "setuptools._distutils.spawn.spawn distutils.spawn.spawn IPython.utils.process.system fabric.Connection.local "
        "sh.Command jinja2.Template huggingface_hub.snapshot_download transformers.pipelines.pipeline "
        "numpy.distutils.exec_command.exec_command nltk.data.load"
    ),
    "arXiv 2508.19774 and the libraries' own sources": (
        "torch.utils.cpp_extension.load torch.utils.cpp_extension.load_inline torch.utils.model_zoo.load_url "
        "torch.fx.graph_module._forward_from_src torch.fx.graph_module.reduce_graph_module "
        "torch.fx.graph_module._exec_with_source torch.jit._script.script "
        "torch.distributed.elastic.multiprocessing.start_processes torch.distributed.run.main "
        "torch._functorch.aot_autograd.aot_function torch._utils._import_dotted_name torch.multiprocessing.spawn "
        "torch.testing._internal.common_utils.TestCase.runWithPytorchAPIUsageStderr numpy.lib.utils.safe_eval "
        "numpy.ctypeslib.load_library numpy.memmap numpy.fromfile numpy.lib._datasource.DataSource "
        "pandas.core.computation.eval.eval pandas.io.sql.execute pandas.io.common.urlopen "
        "sklearn.datasets._openml._open_openml_url sklearn.datasets.fetch_openml "
        "joblib.externals.cloudpickle.loads joblib.externals.loky.backend.spawn.prepare "
        "joblib.externals.cloudpickle.cloudpickle.subimport scipy.io.loadmat "
        "gensim.utils.unpickle sympy.sympify sympy.parsing.sympy_parser.parse_expr "
        "sympy.utilities.lambdify.lambdify transformers.dynamic_module_utils.get_class_from_dynamic_module "
        "datasets.load_dataset mlflow.pyfunc.load_model fsspec.open onnxruntime.InferenceSession "
        "keras.src.utils.python_utils.func_load keras.src.saving.serialization_lib.deserialize_keras_object "
        "pytorch_lightning.cli.LightningCLI.instantiate_classes hydra.utils.instantiate hydra._internal.utils._locate "
        "wandb.restore ray.cloudpickle.loads "
        "cffi.FFI numba.core.serialize._unpickle__CustomPickled tornado.template.Template "
        "mako.template.Template bottle.template werkzeug.utils.import_string django.utils.module_loading.import_string "
        "pkg_resources.load_entry_point xml.sax.saxutils.prepare_input_source turtle.config_dict "
        "antigravity.geohash wsgiref.simple_server.make_server http.server.test pyclbr.readmodule "
        "modulefinder.ModuleFinder.run_script rlcompleter.Completer.attr_matches sched.scheduler tabnanny.check "
        "zipapp.create_archive mailcap.findmatch "
        "cgitb.enable xmlrpc.server.SimpleXMLRPCServer "
        "smtpd.SMTPServer logging.config.listen logging.config.fileConfig "
        "dbm.dumb.open pathlib.Path.write_text pathlib.Path.unlink io.open codecs.open os.popen os.execvp os.putenv "
        "os.remove os.posix_spawn builtins.input"
    ),
}
_MODULES_OF = frozenset(
    "Bdb AutoComplete Calltip ObjectTreeItem ModifiedInterpreter Executive Grammar ParserGenerator Profile Trace "
    "GuardBuilder ShapeEnv ConfigModule InteractiveInterpreter _UnixSubprocessTransport ModuleFinder Completer Path "
    "LightningCLI TestCase Connection cdll".split()
)
"""Classes (and an object) whose attributes the gadgets name: the pickle's module ends before them."""


def samples() -> Iterator[Sample]:
    """One sample for each function."""
    for source, names in _PUBLISHED.items():
        for path in names.split():
            module, attribute = _parts(path)
            yield Sample(f"pickle gadgets/{path}", {"model.pkl": _written(path, module, attribute)}, source=source)


def _parts(path: str) -> tuple[str, str]:
    words = path.split(".")
    cut = next((i for i, word in enumerate(words) if word in _MODULES_OF), len(words) - 1)
    return ".".join(words[:cut]), ".".join(words[cut:])


def _written(path: str, module: str, attribute: str) -> bytes:
    """The call, in a way that depends on the name: all ways occur about equally often."""
    way = hashlib.sha256(path.encode()).digest()[8] % 10
    arguments = tuple_of(COMMAND)
    fetched = name(module, attribute)
    if way == 0 and "." not in attribute:
        return b"(" + f"S'{COMMAND}'\n".encode() + f"i{module}\n{attribute}\n.".encode()
    if way == 1 and "." not in attribute:
        return b"(" + old_name(module, attribute) + f"S'{COMMAND}'\no.".encode()
    if way == 2 and "." not in attribute:
        return stream(old_name(module, attribute), f"(S'{COMMAND}'\ntR".encode(), protocol=2)
    is_class = attribute.rpartition(".")[2][:1].isupper()
    if way == 3 and is_class:
        return stream(fetched, arguments, b"\x81")
    if way == 4 and is_class:
        return stream(fetched, arguments, b"}\x92")
    if way == 5:
        return stream(text(attribute), b"\x940", text(module), b"h\x00\x93", arguments, b"R")
    if way == 6:
        return stream(fetched, arguments, b"R0", b"}", text("state"), b"K\x01s")
    if way == 7:
        return stream(list_of(value("layers"), fetched + arguments + b"R", "head"))
    if way == 8:
        inner = fetched + tuple_of(COMMAND, b"}") + b"R"
        return framed(name("collections", "OrderedDict"), b")R}", text("weight"), inner, b"sb")
    return framed(call(module, attribute, COMMAND), b"\x94")
