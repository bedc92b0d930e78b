"""Networks of torch and their ports to JAX and Keras: renamed, re-ordered, transposed, fused and split."""

from benchmarks.ports import bert, decoder, lstm, mobilenet, recurrent_keras, resnet, unet, vit
from benchmarks.ports.interface import Port

PORTS: dict[str, Port] = {
    port.name: port
    for port in (
        bert.PORT, resnet.PORT, mobilenet.PORT, lstm.PORT, recurrent_keras.PORT, decoder.PORT, vit.PORT, unet.PORT,
    )
}  # fmt: skip
"""Name → port."""

__all__ = ["PORTS", "Port"]
