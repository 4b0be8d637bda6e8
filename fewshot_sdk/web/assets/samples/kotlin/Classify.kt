// Classifies pictures with model.onnx, on Java 17 or newer:
//   gradle run --args="../../model.onnx PICTURE..."
// On Android take onnxruntime-android, and in `read` ImageDecoder.decodeBitmap, which turns the picture, and getPixels.
import ai.onnxruntime.*
import java.awt.color.ColorSpace
import java.awt.image.*
import java.io.File
import java.nio.ByteBuffer
import javax.imageio.ImageIO
import org.json.JSONObject

/** A picture as a person sees it: upright, 8 bits, on white where transparent; its pixels, height and width. */
fun read(path: String): Triple<ByteBuffer, Int, Int> {
    val data = File(path).readBytes()
    val image = requireNotNull(ImageIO.read(data.inputStream())) { "not a picture that ImageIO reads" }
    val (raster, model, turn) = Triple(image.raster, image.colorModel, orientation(data))
    val type = model.transferType
    require(model !is ComponentColorModel || type <= DataBuffer.TYPE_USHORT) { "no defined black and white" }
    require(model.colorSpace.type != ColorSpace.TYPE_CMYK) { "CMYK; convert it to RGB" }
    val grey = model.numColorComponents == 1 // getRGB would take its levels for linear ones
    val shift = if (model is ComponentColorModel && type == DataBuffer.TYPE_USHORT) 8 else 0
    val (width, height) = listOf(image.width, image.height).let { if (turn < 5) it else it.reversed() }
    val pixels = ByteBuffer.allocateDirect(3 * width * height)
    for (y in 0 until height) for (x in 0 until width) {
        val (a, b) = if (turn < 5) x to y else y to x
        val from = if (turn in intArrayOf(2, 3, 7, 8)) image.width - 1 - a else a
        val row = if (turn in intArrayOf(3, 4, 6, 7)) image.height - 1 - b else b
        val argb = if (grey || shift > 0) null else image.getRGB(from, row)
        fun level(band: Int) = raster.getSample(from, row, band) shr shift
        val alpha = if (argb != null) argb ushr 24 else if (model.hasAlpha()) level(raster.numBands - 1) else 255
        for (c in 0..2) {
            val value = if (argb != null) argb shr (16 - 8 * c) and 255 else level(if (grey) 0 else c)
            pixels.put(((value * alpha + 255 * (255 - alpha) + 127) / 255).toByte())
        }
    }
    return Triple(pixels.rewind() as ByteBuffer, height, width)
}

fun main(arguments: Array<String>) {
    require(arguments.size > 1) { "usage: classify model.onnx PICTURE..." }
    val environment = OrtEnvironment.getEnvironment()
    val session = environment.createSession(arguments[0])
    val labels = JSONObject(session.metadata.customMetadata["fewshot_sdk"]!!).getJSONArray("labels")
    for (path in arguments.drop(1)) try {
        val (pixels, height, width) = read(path)
        val shape = longArrayOf(1, height.toLong(), width.toLong(), 3)
        val images = OnnxTensor.createTensor(environment, pixels, shape, OnnxJavaType.UINT8)
        val found = session.run(mapOf("images" to images))
        val label = (found["label"].get().value as LongArray)[0].toInt()
        val known = (found["known"].get().value as BooleanArray)[0]
        val row = (found["probabilities"].get().value as Array<*>)[0] as FloatArray
        val name = if (known) labels.getString(label) else "unknown"
        println("$path  $name  ${"%.6f".format(java.util.Locale.ROOT, row[label])}")
        found.close()
        images.close()
    } catch (error: Exception) {
        System.err.println("$path cannot be read: ${error.message}")
    }
}
