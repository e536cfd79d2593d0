// mongo-java-server on the port that is given, of loopback or of the address that follows: its own main knows port 27017 alone.

import de.bwaldvogel.mongo.MongoServer;
import de.bwaldvogel.mongo.MongoVersion;
import de.bwaldvogel.mongo.backend.memory.MemoryBackend;
import java.util.List;

public class Serve {
    public static void main(String[] words) throws InterruptedException {
        MemoryBackend backend = new MemoryBackend();
        backend.version(new Version());
        String address = words.length > 1 ? words[1] : "127.0.0.1";
        new MongoServer(backend).bind(address, Integer.parseInt(words[0]));
        Thread.currentThread().join();
    }

    /** What MongoDB 5.0 says of itself: drivers refuse the library's own 5.0, whose wire version is 4.2's. */
    private static final class Version implements MongoVersion {
        @Override
        public List<Integer> getVersionArray() {
            return List.of(5, 0, 0);
        }

        @Override
        public int getWireVersion() {
            return 13;
        }
    }
}
