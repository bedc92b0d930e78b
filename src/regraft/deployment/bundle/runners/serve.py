"""The model beside this file behind the Open Inference Protocol, by MLServer: pip install mlserver; mlserver start ."""

import run
from mlserver import MLModel
from mlserver.codecs import NumpyCodec
from mlserver.types import InferenceResponse


class Served(MLModel):
    """What `model-settings.json` names."""

    async def load(self):
        """Once, when the server starts."""
        self._run = run.load()
        return True

    async def predict(self, payload):
        """One request: arrays in, arrays out."""
        feeds = {one.name: NumpyCodec.decode_input(one) for one in payload.inputs}
        outputs = [NumpyCodec.encode_output(name, value) for name, value in self._run(feeds).items()]
        return InferenceResponse(model_name=self.name, model_version=self.version, outputs=outputs)
