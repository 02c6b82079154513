using System.Globalization;
using System.Reflection;
using System.Text;
using ILGPU.Backends.PTX;
using ILGPU.IR.Values;

namespace BgeMetal.Kernels.Primitives;

/// <summary>
/// One call of an intrinsic while its kernel's PTX is written: hands out the registers of operands and result and appends text. Every operand
/// must be asked for before text is appended, because a constant operand costs a <c>mov</c> of its own.
/// </summary>
internal readonly struct PtxCall(PTXCodeGenerator generator, ILGPU.IR.Value value)
{
    /// <summary>The intrinsic's type arguments, in the order of its declaration.</summary>
    public Type[] TypeArguments => ((MethodInfo)((MethodCall)value).Target.Source).GetGenericArguments();

    /// <summary>
    /// A suffix that makes a label unique in its kernel, to follow a letter. The fix-ups renumber it, because the text before a call has numbers of varying
    /// length; no number of ILGPU's own begins with a zero.
    /// </summary>
    public string UniqueSuffix => string.Create(CultureInfo.InvariantCulture, $"_0{generator.Builder.Length}");

    /// <summary>The register of a primitive operand.</summary>
    public string Operand(int index) =>
        Name(generator.EnsureHardwareRegister(generator.LoadPrimitive(value[index])));

    /// <summary>True when ILGPU knows a reference operand to be a shared-memory address already, false when it is generic.</summary>
    public bool IsShared(int index) => value[index].Type is ILGPU.IR.Types.AddressSpaceType { AddressSpace: ILGPU.IR.MemoryAddressSpace.Shared };

    /// <summary>The registers of a struct operand's fields, in order.</summary>
    public string[] Operands(int index)
    {
        List<string> names = [];
        Collect(generator.Load(value[index]), names);
        return [.. names];
    }

    /// <summary>The value of an operand that must be a constant once the kernel's generics are resolved.</summary>
    /// <exception cref="NotSupportedException">The operand is not a constant.</exception>
    public int Constant(int index) => value[index].Resolve() is PrimitiveValue constant
        ? constant.Int32Value
        : throw new NotSupportedException($"operand {index} of {((MethodCall)value).Target.Name} must be a compile-time constant");

    /// <summary>A fresh register for the primitive result.</summary>
    public string Result() => Results()[0];

    /// <summary>Fresh registers for the result's fields, in order.</summary>
    public string[] Results()
    {
        List<string> names = [];
        Collect(generator.Allocate(value), names);
        return [.. names];
    }

    /// <summary>
    /// Lets the result live in the registers of operand <paramref name="index"/>, which the text then changes in place. Valid only when the
    /// operand's old value is not used again: <c>x = Intrinsic(x, ..)</c>.
    /// </summary>
    public string[] Alias(int index)
    {
        PTXRegisterAllocator.Register register = generator.Load(value[index]);
        generator.Bind(value, register);
        List<string> names = [];
        Collect(register, names);
        return [.. names];
    }

    /// <summary>Appends instructions, one a line.</summary>
    public void Emit(string text) => generator.Builder.AppendLine(text);

    /// <summary>Appends a block of instructions with its own scope for registers and labels.</summary>
    public void Emit(StringBuilder text) => generator.Builder.Append("\t{\n").Append(text).AppendLine("\t}");

    private void Collect(PTXRegisterAllocator.Register register, List<string> names)
    {
        if (register is PTXRegisterAllocator.CompoundRegister compound)
            foreach (PTXRegisterAllocator.Register child in compound.Children) Collect(child, names);
        else
            names.Add(Name(generator.EnsureHardwareRegister((PTXRegisterAllocator.PrimitiveRegister)register)));
    }

    private static string Name(PTXRegisterAllocator.HardwareRegister register) =>
        "%" + PTXRegisterAllocator.GetStringRepresentation(register);
}
