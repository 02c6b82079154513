using System.Runtime.InteropServices;

namespace BgeMetal.Benchmarks.Onnx;

/// <summary>
/// Collects the nodes and initializers of an ONNX model and writes it as protobuf (field numbers of onnx.proto, IR version 8). Values flow by
/// name: every <c>Node</c> returns the name of its first output. Weights are produced one at a time while writing, so that a model is never in memory twice.
/// </summary>
internal sealed class OnnxGraph
{
    /// <summary>TensorProto.DataType values of the ONNX standard.</summary>
    public enum ElementType { Float = 1, Int32 = 6, Int64 = 7 }

    /// <summary>The domain of ONNX Runtime's own fused operators.</summary>
    public const string MicrosoftDomain = "com.microsoft";

    private readonly ProtoMessage nodes = new();
    private readonly ProtoMessage valueInfos = new();
    private readonly List<Initializer> initializers = [];
    private int nodeCount;

    private sealed record Initializer(string Name, ElementType Type, long[] Dimensions, long SizeBytes, Func<Array> Values);

    /// <summary>Adds a node of the standard domain with one output and returns that output's name; an empty input name means "not given".</summary>
    public string Node(string op, string[] inputs, params (string Name, object Value)[] attributes) => Node("", op, inputs, 1, attributes);

    /// <summary>Adds a node with <paramref name="outputs"/> outputs; the first is returned, the others are that name with ".1", ".2" appended.</summary>
    public string Node(string domain, string op, string[] inputs, int outputs, params (string Name, object Value)[] attributes)
    {
        string name = $"{op}_{nodeCount++}";
        ProtoMessage node = new();
        foreach (string input in inputs)
            node.Text(1, input);
        for (int i = 0; i < outputs; i++)
            node.Text(2, i == 0 ? name : $"{name}.{i}");
        node.Text(3, name).Text(4, op);
        foreach ((string attribute, object value) in attributes)
            node.Message(5, Attribute(attribute, value));
        nodes.Message(1, node.Text(7, domain));
        return name;
    }

    /// <summary>Adds a float initializer whose values are made when the model is written; returns its name.</summary>
    public string Weight(string name, int[] dimensions, Func<float[]> values)
    {
        long[] sizes = [.. dimensions.Select(size => (long)size)];
        initializers.Add(new(name, ElementType.Float, sizes, sizes.Aggregate(1L, (product, size) => product * size) * sizeof(float), values));
        return name;
    }

    /// <summary>Adds a constant int64 vector (a shape, axes, a bound of a slice); returns its name.</summary>
    public string Integers(params long[] values)
    {
        string name = "integers_" + string.Join("_", values).Replace('-', 'm');
        if (!initializers.Exists(initializer => initializer.Name == name))
            initializers.Add(new(name, ElementType.Int64, [values.Length], values.Length * sizeof(long), () => values));
        return name;
    }

    /// <summary>Adds a constant int64 scalar; returns its name.</summary>
    public string Integer(long value)
    {
        string name = "integer_" + value;
        if (!initializers.Exists(initializer => initializer.Name == name))
            initializers.Add(new(name, ElementType.Int64, [], sizeof(long), () => new[] { value }));
        return name;
    }

    /// <summary>Adds a constant float scalar; returns its name.</summary>
    public string Scalar(string name, float value)
    {
        if (!initializers.Exists(initializer => initializer.Name == name))
            initializers.Add(new(name, ElementType.Float, [], sizeof(float), () => new[] { value }));
        return name;
    }

    /// <summary>Declares a graph input; a dimension is a fixed size (int) or a name (string).</summary>
    public string Input(string name, ElementType type, params object[] dimensions)
    {
        valueInfos.Message(11, ValueInfo(name, type, dimensions));
        return name;
    }

    /// <summary>Declares a graph output and gives <paramref name="value"/> its name.</summary>
    public void Output(string name, string value, params object[] dimensions)
    {
        nodes.Message(1, new ProtoMessage().Text(1, value).Text(2, name).Text(4, "Identity"));
        valueInfos.Message(12, ValueInfo(name, ElementType.Float, dimensions));
    }

    /// <summary>Writes the model. Its size must stay below protobuf's 2 GB.</summary>
    /// <exception cref="BgeMetalException">The weights are too large for one protobuf message.</exception>
    public void Save(string path)
    {
        ProtoMessage name = new ProtoMessage().Text(2, "encoder");
        List<ProtoMessage> heads = [.. initializers.Select(InitializerHead)];
        long size = name.Bytes.Length + nodes.Bytes.Length + valueInfos.Bytes.Length + heads.Zip(initializers, (head, one) => head.Bytes.Length + one.SizeBytes).Sum();
        if (size > int.MaxValue - 4096)
            throw new BgeMetalException("cannot write the ONNX model", $"{size} bytes do not fit into one protobuf message", path);

        ProtoMessage model = new ProtoMessage().Number(1, 8).Text(2, "BgeMetal.Benchmarks")
            .Message(8, new ProtoMessage().Text(1, "").Number(2, 17))
            .Message(8, new ProtoMessage().Text(1, MicrosoftDomain).Number(2, 1))
            .Head(7, size);
        using FileStream file = File.Create(path);
        file.Write(model.Bytes);
        file.Write(name.Bytes);
        file.Write(nodes.Bytes);
        for (int i = 0; i < heads.Count; i++)
        {
            file.Write(heads[i].Bytes);
            WriteValues(file, initializers[i]);
        }
        file.Write(valueInfos.Bytes);
    }

    /// <summary>Everything of a TensorProto inside its GraphProto except the raw bytes themselves, which follow.</summary>
    private static ProtoMessage InitializerHead(Initializer initializer)
    {
        ProtoMessage body = new();
        foreach (long size in initializer.Dimensions)
            body.Number(1, size);
        body.Number(2, (long)initializer.Type).Text(8, initializer.Name).Head(9, initializer.SizeBytes);
        return new ProtoMessage().Head(5, body.Bytes.Length + initializer.SizeBytes).Append(body);
    }

    private static void WriteValues(FileStream file, Initializer initializer)
    {
        ReadOnlySpan<byte> bytes = initializer.Values() switch
        {
            float[] floats => MemoryMarshal.AsBytes(floats.AsSpan()),
            long[] integers => MemoryMarshal.AsBytes(integers.AsSpan()),
            _ => throw new InvalidOperationException("an initializer is float or int64"),
        };
        if (bytes.Length != initializer.SizeBytes)
            throw new InvalidOperationException($"{initializer.Name} has {bytes.Length} bytes where its shape asks for {initializer.SizeBytes}");
        file.Write(bytes);
    }

    private static ProtoMessage ValueInfo(string name, ElementType type, object[] dimensions)
    {
        ProtoMessage shape = new();
        foreach (object dimension in dimensions)
            shape.Message(1, dimension is int size ? new ProtoMessage().Number(1, size) : new ProtoMessage().Text(2, (string)dimension));
        ProtoMessage tensor = new ProtoMessage().Number(1, (long)type).Message(2, shape);
        return new ProtoMessage().Text(1, name).Message(2, new ProtoMessage().Message(1, tensor));
    }

    private static ProtoMessage Attribute(string name, object value)
    {
        ProtoMessage attribute = new ProtoMessage().Text(1, name);
        switch (value)
        {
            case float number:
                return attribute.Float(2, number).Number(20, 1);
            case long number:
                return attribute.Number(3, number).Number(20, 2);
            case long[] numbers:
                foreach (long number in numbers)
                    attribute.Number(8, number);
                return attribute.Number(20, 7);
            default:
                throw new ArgumentException($"an attribute of type {value.GetType().Name}", nameof(value));
        }
    }
}
