#!/usr/bin/env bash
# Installs the packages whose models openmmcg.potentials.external imports, each in an environment of its own below
# build/external, which sees what is in .venv: not all of them can live together (e3nn). `setup_external.sh NAME...`
# installs some of them only. Does again only what has changed.
set -euo pipefail
cd "$(dirname "$0")/.."
declare -A packages=(
    [nequip]="nequip==0.19.0 nequip-allegro==0.8.3"
    [deepmd]="deepmd-kit==3.2.0 mpich==5.0.1 e3nn==0.6.0"
    [mace]="mace-torch==0.3.16"
    [torchmd_net]="warp-lang==1.19.0 ase==3.29.0"
    [schnetpack]="ase==3.29.0 matscipy==1.3.1 hydra-core==1.3.8 hydra-colorlog==1.2.0 fasteners==0.20 dirsync==2.2.6 tensorboardX==2.6.5 torch-ema==0.3"
    [metatomic]="metatomic-torch==0.1.19 metatomic-ase==0.1.4 wigners==0.4.1 ase==3.29.0"
)
declare -A alone=( # without what they depend on: a torch_cluster that takes ten minutes to compile, older packages
    [torchmd_net]="torchmd-net==3.1.0"
    [schnetpack]="schnetpack==2.1.1"
)
for name in "${@:-${!packages[@]}}"; do
    [ -n "${packages[$name]:-}" ] || { echo "setup: no package '$name'; known are ${!packages[*]}" >&2; exit 1; }
    folder=build/external/$name
    wanted="${packages[$name]} ${alone[$name]:-} $(sha256sum <constraints.txt)"
    if [ "$(cat "$folder/packages" 2>/dev/null)" = "$wanted" ]; then continue; fi
    echo "setup: installing $name into $folder"
    rm -rf "$folder"
    .venv/bin/python -m venv "$folder"
    sees=$(.venv/bin/python -c "import sysconfig; print(sysconfig.get_path('purelib'))")
    echo "$sees" >"$("$folder"/bin/python -c "import sysconfig; print(sysconfig.get_path('purelib'))")/openmmcg_base.pth"
    # shellcheck disable=SC2086  # words are packages
    if ! "$folder"/bin/pip install -q -c constraints.txt ${packages[$name]} ||
        { [ -n "${alone[$name]:-}" ] && ! "$folder"/bin/pip install -q --no-deps ${alone[$name]}; }; then
        rm -rf "$folder"
        echo "setup: $name could NOT be installed: the tests of its models will be skipped" >&2
        continue
    fi
    # DeePMD-kit's library of operators is built for another torch; models of se_e2_a do without it.
    rm -f "$folder"/lib/python*/site-packages/deepmd/lib/libdeepmd_op_pt.so
    echo "$wanted" >"$folder/packages"
done
