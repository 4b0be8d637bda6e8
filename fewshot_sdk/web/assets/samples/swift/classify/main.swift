// Classifies pictures with model.onnx, on macOS, by onnxruntime's C interface: its Swift package knows no truth values.
//   brew install onnxruntime pkg-config
//   swift run classify ../../model.onnx PICTURE...
import CoreGraphics
import Foundation
import ImageIO
import onnxruntime

let ort = OrtGetApiBase()!.pointee.GetApi(UInt32(ORT_API_VERSION))!.pointee

func check(_ status: OrtStatusPtr?) {
    if let status { fatalError(String(cString: ort.GetErrorMessage(status)!)) }
}

/// A picture as a person sees it: upright, 8 bits, on white where transparent; its pixels, height and width.
func read(_ path: String) -> ([UInt8], Int, Int)? {
    guard let source = CGImageSourceCreateWithURL(URL(fileURLWithPath: path) as CFURL, nil),
          let whole = CGImageSourceCreateImageAtIndex(source, 0, nil) else { return nil }
    let options: [CFString: Any] = [kCGImageSourceCreateThumbnailFromImageAlways: true,
                                    kCGImageSourceCreateThumbnailWithTransform: true, // turned as its EXIF says
                                    kCGImageSourceThumbnailMaxPixelSize: max(whole.width, whole.height)]
    guard let image = CGImageSourceCreateThumbnailAtIndex(source, 0, options as CFDictionary) else { return nil }
    let (width, height) = (image.width, image.height)
    var wide = [UInt8](repeating: 255, count: 4 * width * height) // white
    let context = CGContext(data: &wide, width: width, height: height, bitsPerComponent: 8, bytesPerRow: 4 * width,
                            space: image.colorSpace?.model == .rgb ? image.colorSpace! : CGColorSpaceCreateDeviceRGB(),
                            bitmapInfo: CGImageAlphaInfo.noneSkipLast.rawValue)!
    context.draw(image, in: CGRect(x: 0, y: 0, width: width, height: height))
    return (wide.enumerated().filter { $0.offset % 4 < 3 }.map(\.element), height, width)
}

let (model, paths) = (CommandLine.arguments[1], CommandLine.arguments.dropFirst(2))
var (environment, options, session): (OpaquePointer?, OpaquePointer?, OpaquePointer?)
var (metadata, allocator, memory): (OpaquePointer?, UnsafeMutablePointer<OrtAllocator>?, OpaquePointer?)
var stored: UnsafeMutablePointer<CChar>?
check(ort.CreateEnv(ORT_LOGGING_LEVEL_ERROR, "classify", &environment))
check(ort.CreateSessionOptions(&options))
check(ort.CreateSession(environment, model, options, &session))
check(ort.SessionGetModelMetadata(session, &metadata))
check(ort.GetAllocatorWithDefaultOptions(&allocator))
check(ort.ModelMetadataLookupCustomMetadataMap(metadata, allocator, "fewshot_sdk", &stored))
check(ort.CreateCpuMemoryInfo(OrtArenaAllocator, OrtMemTypeDefault, &memory))
let settings = try JSONSerialization.jsonObject(with: Data(String(cString: stored!).utf8)) as! [String: Any]
let labels = settings["labels"] as! [String]
let names = ["images", "label", "probabilities", "known"].map { UnsafePointer(strdup($0)) }
for path in paths {
    guard var (pixels, height, width) = read(path) else { print("\(path) cannot be read"); continue }
    var (images, found): (OpaquePointer?, [OpaquePointer?]) = (nil, [nil, nil, nil])
    check(ort.CreateTensorWithDataAsOrtValue(memory, &pixels, pixels.count, [1, Int64(height), Int64(width), 3], 4,
                                             ONNX_TENSOR_ELEMENT_DATA_TYPE_UINT8, &images))
    check(ort.Run(session, nil, names, [images], 1, Array(names.dropFirst()), 3, &found))
    var data: [UnsafeMutableRawPointer?] = [nil, nil, nil]
    for i in 0..<3 { check(ort.GetTensorMutableData(found[i], &data[i])) }
    let label = Int(data[0]!.load(as: Int64.self))
    let probability = data[1]!.load(fromByteOffset: 4 * label, as: Float.self)
    let name = data[2]!.load(as: Bool.self) ? labels[label] : "unknown"
    print("\(path)  \(name)  \(String(format: "%.6f", probability))")
}
