"""Record a trace for Regraft from any framework: a file to copy; it needs numpy and Python 3.6, and no Regraft.

dump = Dump("folder", model="my net", framework="jax", versions={"jax": "0.10.2"})
dump.feed("x", x)                                    # what went in
dump.tap("conv1", y, operator="Conv", inputs=["x"])  # what came out in between, in order
dump.output("logits", z)                             # what the model answered; without any, the last tap is it
dump.close()                                         # writes trace.json: without it there is no trace
"""

import hashlib
import json
import os

import numpy as np

NAMES = "bool uint8 int8 uint16 int16 uint32 int32 uint64 int64 float16 bfloat16 float32 float64 complex64"
DTYPES = dict(zip(NAMES.split(), "BOOL U8 I8 U16 I16 U32 I32 U64 I64 F16 BF16 F32 F64 C64".split()))
HEADER_BYTES, MAX_TENSORS = 1 << 18, 600  # kept at the front of a file for its header, which is known at its end


class Dump:
    def __init__(self, folder, model="", framework="", versions=None, precision="float32", file_bytes=1 << 28):
        os.makedirs(folder)  # it must not exist yet
        self.folder, self.file_bytes, self.file, self.files, self.passes = folder, file_bytes, None, 0, []
        self.facts = {"model": model, "framework": framework, "versions": versions or {}, "precision": precision}

    def next_pass(self, name="", precision=None):
        self.counts = {}
        self.passes.append({"name": name, "precision": precision, "inputs": [], "outputs": [], "taps": []})

    def feed(self, name, array, keep=True):
        self._put("inputs", name, array, keep, sha256=hashlib.sha256(np.asarray(array).tobytes()).hexdigest())

    def tap(self, name, array, operator="", scope="", inputs=None):
        self._put("taps", name, array, operator=operator, scope=scope, inputs=inputs)

    def output(self, name, array):
        self._put("outputs", name, array)

    def close(self):
        self._end_file()
        with open(os.path.join(self.folder, "trace.json"), "w") as file:
            json.dump(dict({"schema": "regraft.trace/1"}, passes=self.passes, **self.facts), file)

    def _put(self, kind, name, array, keep=True, **facts):
        if not self.passes:
            self.next_pass()
        array, number = np.asarray(array), self.counts.setdefault((kind, name), 0)
        self.counts[kind, name] = number + 1  # the second one of a name is called name:1
        row = dict(facts, name=f"{name}:{number}" if number else name, dtype=array.dtype.name, shape=array.shape)
        if keep:
            row["key"] = f"{len(self.passes) - 1}/{kind}/{len(self.passes[-1][kind])}"
            row["file"] = self._write(row["key"], array)
        self.passes[-1][kind].append(row)

    def _write(self, key, array):
        if self.file and (self.end + array.nbytes > self.file_bytes or len(self.header) == MAX_TENSORS):
            self._end_file()
        if not self.file:
            self.files, self.header, self.end = self.files + 1, {}, 0
            self.file = open(os.path.join(self.folder, f"tensors-{self.files:05d}.safetensors"), "wb")
            self.file.write(b" " * (8 + HEADER_BYTES))
        place = [self.end, self.end + array.nbytes]
        self.header[key] = {"dtype": DTYPES[array.dtype.name], "shape": array.shape, "data_offsets": place}
        self.file.write(array.tobytes())
        self.end = place[1]
        return os.path.basename(self.file.name)

    def _end_file(self):
        if self.file:
            self.file.seek(0)
            self.file.write(HEADER_BYTES.to_bytes(8, "little") + json.dumps(self.header).encode())
            self.file = self.file.close()
