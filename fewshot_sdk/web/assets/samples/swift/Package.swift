// swift-tools-version: 5.9
import PackageDescription

let package = Package(
    name: "classify",
    platforms: [.macOS(.v13)],
    targets: [
        .systemLibrary(name: "onnxruntime", path: "onnxruntime", pkgConfig: "libonnxruntime",
                       providers: [.brew(["onnxruntime"])]),
        .executableTarget(name: "classify", dependencies: ["onnxruntime"], path: "classify"),
    ]
)
