// Classifies pictures with model.onnx, in .NET 8 or newer:
//   dotnet run -- ../../model.onnx PICTURE...
using System.Globalization;
using System.Text.Json;
using Microsoft.ML.OnnxRuntime;
using SixLabors.ImageSharp;
using SixLabors.ImageSharp.PixelFormats;
using SixLabors.ImageSharp.Processing;

if (args.Length < 2)
{
    Console.Error.WriteLine("usage: dotnet run -- model.onnx PICTURE...");
    return 1;
}
using var options = new SessionOptions { LogSeverityLevel = OrtLoggingLevel.ORT_LOGGING_LEVEL_ERROR };
using var session = new InferenceSession(args[0], options);
using var stored = JsonDocument.Parse(session.ModelMetadata.CustomMetadataMap["fewshot_sdk"]);
var labels = stored.RootElement.GetProperty("labels").EnumerateArray().Select(label => label.GetString()!).ToArray();
foreach (var path in args.Skip(1))
{
    try
    {
        var (pixels, shape) = Read(path);
        using var images = OrtValue.CreateTensorValueFromMemory(pixels, shape);
        var inputs = new Dictionary<string, OrtValue> { ["images"] = images };
        using var run = new RunOptions();
        using var found = session.Run(run, inputs, new[] { "label", "probabilities", "known" });
        var label = (int)found[0].GetTensorDataAsSpan<long>()[0];
        var name = found[2].GetTensorDataAsSpan<bool>()[0] ? labels[label] : "unknown";
        var probability = found[1].GetTensorDataAsSpan<float>()[label].ToString("F6", CultureInfo.InvariantCulture);
        Console.WriteLine($"{path}  {name}  {probability}");
    }
    catch (Exception error) when (error is ImageFormatException or IOException)
    {
        Console.Error.WriteLine($"{path} cannot be read: {error.Message}");
    }
}
return 0;

// A picture as a person sees it: upright, 8 bits, on white where transparent; height x width x 3 numbers.
static (byte[], long[]) Read(string path)
{
    using var image = Image.Load<Rgba64>(path); // 16 bits, of which the upper 8 are kept, as everywhere else
    image.Mutate(picture => picture.AutoOrient());
    var pixels = new List<byte>(image.Width * image.Height * 3);
    image.ProcessPixelRows(rows =>
    {
        for (var y = 0; y < rows.Height; y++)
            foreach (var pixel in rows.GetRowSpan(y))
                foreach (var level in new[] { pixel.R, pixel.G, pixel.B })
                    pixels.Add((byte)(((level >> 8) * (pixel.A >> 8) + 255 * (255 - (pixel.A >> 8)) + 127) / 255));
    });
    return (pixels.ToArray(), new long[] { 1, image.Height, image.Width, 3 });
}
