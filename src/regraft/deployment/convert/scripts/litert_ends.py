"""What the scripts that make TFLite share: the ends of a flatbuffer get the names and the order of the source."""


def with_names(content, schema, inputs, outputs):
    """The flatbuffer with its ends called and ordered as in the source; converters name and sort them anew.

    `schema` is the module of generated readers that the environment has; an end that the signature lacks is left out.
    """
    import flatbuffers

    model = schema.ModelT.InitFromPackedBuf(bytearray(content), 0)
    signature, graph = model.signatureDefs[0], model.subgraphs[0]
    for given, wanted, ends in (
        (signature.inputs, inputs, "inputs"),
        (signature.outputs, outputs, "outputs"),
    ):
        places = {one.name.decode(): one.tensorIndex for one in given}
        setattr(graph, ends, [places[name] for name in wanted if name in places])
        for name, place in places.items():
            graph.tensors[place].name = name.encode()
    builder = flatbuffers.Builder(len(content))
    builder.Finish(model.Pack(builder), b"TFL3")
    return bytes(builder.Output())
