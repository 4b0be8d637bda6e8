// Writes the pixels that Classify.kt reads of each picture beside it, and prints the picture's height and width.
import java.nio.file.Files;
import java.nio.file.Path;

public class Pixels {
    public static void main(String[] paths) throws Exception {
        for (String path : paths) {
            try {
                var read = ClassifyKt.read(path);
                byte[] pixels = new byte[read.getFirst().remaining()];
                read.getFirst().get(pixels);
                Files.write(Path.of(path + ".rgb"), pixels);
                System.out.println(path + "  " + read.getSecond() + "  " + read.getThird());
            } catch (Exception error) {
                System.err.println(path + " cannot be read: " + error.getMessage());
            }
        }
    }
}
