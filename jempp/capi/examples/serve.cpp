// Several threads share one model, as in a server: each classifies its own images as fast as it can.
//
//   serve MODEL [THREADS] [CALLS]
//
// Compile with: c++ -std=c++11 serve.cpp $(pkg-config --cflags --libs jempp) -pthread -o serve
#include <jempp.h>

#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

namespace jempp {

// Thrown for a status other than JEMPP_OK.
struct Error : std::runtime_error {
    jempp_status status;
    explicit Error(jempp_status s)
        : std::runtime_error(std::string(jempp_status_string(s)) + ": " + jempp_last_error()), status(s)
    {
    }
};

inline void check(jempp_status status)
{
    if (status != JEMPP_OK)
        throw Error(status);
}

struct Free {
    void operator()(jempp_context *context) const { jempp_context_free(context); }
    void operator()(jempp_model *model) const { jempp_model_free(model); }
};

// A compute device with its threads.
class Context {
    std::unique_ptr<jempp_context, Free> handle;

public:
    explicit Context(int threads = 0)
    {
        jempp_context_options options;
        jempp_context_options_init(&options, sizeof options);
        options.threads = threads;
        jempp_context *made = nullptr;
        check(jempp_context_create(&options, &made));
        handle.reset(made);
    }
    jempp_context *get() const { return handle.get(); }
};

// A model; its methods may be called concurrently.
class Model {
    std::unique_ptr<jempp_model, Free> handle;
    jempp_model_info about = jempp_model_info();

public:
    Model(const Context &context, const char *path)
    {
        jempp_model *loaded = nullptr;
        check(jempp_model_load(context.get(), path, &loaded));
        handle.reset(loaded);
        about.struct_size = sizeof about;
        check(jempp_model_get_info(loaded, &about));
    }
    const jempp_model_info &info() const { return about; }
    std::size_t pixels() const { return std::size_t(about.height) * about.width * about.channels; }
    std::vector<float> logits(const std::vector<float> &images) const
    {
        std::size_t n = images.size() / pixels();
        std::vector<float> out(n * about.classes);
        check(jempp_logits(handle.get(), images.data(), n, out.data(), out.size()));
        return out;
    }
};

} // namespace jempp

// An image that depends only on i.
static std::vector<float> image(const jempp::Model &model, unsigned i)
{
    std::vector<float> x(model.pixels());
    for (std::size_t k = 0; k < x.size(); k++)
        x[k] = float((k * 31 + i * 17) % 255) / 127.5f - 1.0f;
    return x;
}

static void serve(const jempp::Model &model, unsigned calls, unsigned *wrong)
{
    for (unsigned i = 0; i < calls; i++) {
        std::vector<float> x = image(model, i % 8), once = model.logits(x);
        x.resize(2 * model.pixels()); // with a grey image in the same batch
        std::vector<float> twice = model.logits(x);
        twice.resize(once.size());
        *wrong += once != twice; // bit-identical in any batch
    }
}

int main(int argc, char **argv)
{
    if (argc < 2) {
        std::fprintf(stderr, "usage: %s MODEL [THREADS] [CALLS]\n", argv[0]);
        return 2;
    }
    const unsigned threads = argc > 2 ? unsigned(std::atoi(argv[2])) : 4;
    const unsigned calls = argc > 3 ? unsigned(std::atoi(argv[3])) : 100;
    try {
        const jempp::Context context;
        const jempp::Model model(context, argv[1]);
        std::vector<unsigned> wrong(threads, 0);
        std::vector<std::thread> workers;
        const auto start = std::chrono::steady_clock::now();
        for (unsigned t = 0; t < threads; t++)
            workers.emplace_back(serve, std::cref(model), calls, &wrong[t]);
        for (std::thread &worker : workers)
            worker.join();
        const std::chrono::duration<double> took = std::chrono::steady_clock::now() - start;
        unsigned all = 0;
        for (unsigned w : wrong)
            all += w;
        std::printf("%u threads, %.0f images/s, %u differed\n", threads, threads * calls * 3 / took.count(), all);
        return all ? 1 : 0;
    } catch (const std::exception &e) {
        std::fprintf(stderr, "%s\n", e.what());
        return 1;
    }
}
