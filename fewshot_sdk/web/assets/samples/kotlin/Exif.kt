/** How a JPEG is turned, 1 to 8, from its EXIF; 1 for other files. */
fun orientation(data: ByteArray): Int {
    fun number(at: Int, size: Int, little: Boolean = false): Int = (0 until size).fold(0) { sum, i ->
        sum or ((data[at + i].toInt() and 255) shl (8 * if (little) i else size - 1 - i))
    }
    var at = if (data.size > 4 && number(0, 2) == 0xffd8) 2 else return 1
    while (at + 18 < data.size && number(at, 2) in 0xffc0..0xfffe && number(at, 2) != 0xffda) {
        val tiff = at + 10 // behind the marker, its length and "Exif" with two zeros
        if (number(at, 2) == 0xffe1 && number(at + 4, 4) == 0x45786966) {
            val little = number(tiff, 2) == 0x4949
            val entries = tiff + number(tiff + 4, 4, little)
            return (0 until number(entries, 2, little)).map { entries + 2 + 12 * it }
                .firstOrNull { number(it, 2, little) == 0x0112 }?.let { number(it + 8, 2, little) } ?: 1
        }
        at += 2 + number(at + 2, 2)
    }
    return 1
}
