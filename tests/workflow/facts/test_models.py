import pytest

from regraft.package.formats import Description, Role, Tensor
from regraft.workflow.facts.interface import InspectedFile
from regraft.workflow.facts.models import group_models


def weights(path, count=10, size=100):
    description = Description(tensors=(Tensor("w", "float32", (count,)),))
    return InspectedFile(path, size, "safetensors", "safetensors", Role.WEIGHTS, description=description)


@pytest.mark.parametrize(
    ("paths", "names"),
    [
        (
            ["silero_vad.onnx", "silero_vad.jit", "silero_vad_half.onnx", "silero_vad_16k.onnx"],
            ["silero_vad", "silero_vad_16k"],
        ),
        (["m/model-1.pt", "m/model_1_weights.pt", "m/model-2.pt"], ["model_1", "model_2"]),
        (["a/model.safetensors", "a/pytorch_model.bin", "a/onnx/model.onnx"], ["a"]),
        (["x/ft/model.bin", "x/pre/model.bin"], ["ft", "pre"]),
        (["pnet.pt", "rnet.pt", "onet.pt"], ["onet", "pnet", "rnet"]),
        (["nmp/saved_model.pb", "nmp/variables/variables.index", "nmp.onnx", "nmp.mlpackage/Data/w.bin"], ["nmp"]),
        (["a/model.pt", "a/scheduler.pt", "a/optimizer.pt", "a/training_args.bin"], ["a"]),
        (["SmolLM2-135M.Q4_1.gguf", "SmolLM2-135M.Q8_0.gguf"], ["smollm2_135m"]),
        (["a/x/model.pt", "b/x/model.pt"], ["a/x/model", "b/x/model"]),
        (["model.pt"], ["model"]),
        (["musicnn/MSD_vgg/.index", "musicnn/MSD_vgg/.meta", "musicnn/MTT_vgg/.index"], ["MSD_vgg", "MTT_vgg"]),
        (["web/ssd/tensorflowjs_model.pb", "web/ssd/weights_manifest.json"], ["ssd"]),
    ],
)
def test_files_are_grouped_into_networks(paths, names):
    assert sorted(model.name for model in group_models([weights(path) for path in paths])) == names


def test_copies_are_not_added_up_and_shards_are():
    copies = group_models([weights("m.onnx", 10), weights("m.safetensors", 12)])
    assert [model.parameters for model in copies] == [12]
    shards = group_models([weights(f"model-0000{n}-of-00003.safetensors", 10) for n in (1, 2, 3)])
    assert [(model.is_sharded, model.parameters) for model in shards] == [(True, 30)]


def test_buffers_are_no_parameters():
    tensors = (
        Tensor("bn.weight", "float32", (4,)),
        Tensor("bn.running_mean", "float32", (4,)),
        Tensor("bn.num_batches_tracked", "int64", ()),
        Tensor("embeddings.position_ids", "int64", (1, 512)),
        Tensor("stft.forward_basis_buffer", "float32", (3, 3)),
    )
    file = InspectedFile("m.pt", 1, "torch-zip", "", Role.WEIGHTS, description=Description(tensors=tensors))
    assert file.stored == 4 + 4 + 1 + 512 + 9
    assert file.parameters == 4


def test_names_are_unique_whatever_the_paths():
    paths = ["a/model.pt", "a/net.pt", "b/model.pt", "b/a/model.pt", "model.pt", "a_model/x.pt"]
    names = [model.name for model in group_models([weights(path) for path in paths])]
    assert len(names) == len(set(names)) == len(paths)
