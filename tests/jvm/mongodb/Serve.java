// mongo-java-server on the port of loopback that is given: its own main knows port 27017 alone.

import de.bwaldvogel.mongo.MongoServer;
import de.bwaldvogel.mongo.MongoVersion;
import de.bwaldvogel.mongo.backend.memory.MemoryBackend;
import java.util.List;

public class Serve {
    public static void main(String[] words) throws InterruptedException {
        MemoryBackend backend = new MemoryBackend();
        backend.version(new Version());
        new MongoServer(backend).bind("127.0.0.1", Integer.parseInt(words[0]));
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
