from h import *
import pandas as pd
def swap(c,pairs):
    c=c.copy()
    for a,b in pairs: c[...,[a,b],:]=c[...,[b,a],:]
    return c
def rot(c,ax,deg):
    a=np.deg2rad(deg); R=np.eye(3); i,j=[(1,2),(2,0),(0,1)][ax]; R[i,i]=R[j,j]=np.cos(a); R[i,j]=-np.sin(a); R[j,i]=np.sin(a); return (c@R.T).astype(np.float32)
if __name__=='__main__':
    U=table('utkinect.zip',n=60); Y='layout: kinect20\n'
    M=table('msrc12-odd.zip',n=60)
    for nm,S in (('utk',U),('msrc',M)):
        run(nm+'-lowlegs',[swap(c,[(13,17),(14,18),(15,19)]) for c in S],Y,dup=False)
        run(nm+'-shins',[swap(c,[(14,18),(15,19)]) for c in S],Y,dup=False)
        run(nm+'-feet',[swap(c,[(15,19)]) for c in S],Y,dup=False)
        run(nm+'-hips',[swap(c,[(12,16)]) for c in S],Y,dup=False)
        run(nm+'-forearms',[swap(c,[(5,9),(6,10),(7,11)]) for c in S],Y,dup=False)
        run(nm+'-hands',[swap(c,[(6,10),(7,11)]) for c in S],Y,dup=False)
        run(nm+'-handonly',[swap(c,[(7,11)]) for c in S],Y,dup=False)
        run(nm+'-hand-wrist',[swap(c,[(6,7),(10,11)]) for c in S],Y,dup=False)
        run(nm+'-ankle-foot',[swap(c,[(14,15),(18,19)]) for c in S],Y,dup=False)
        run(nm+'-arms',[swap(c,[(4,8),(5,9),(6,10),(7,11)]) for c in S],Y,dup=False)
        run(nm+'-spine',[swap(c,[(0,1)]) for c in S],Y,dup=False)
        run(nm+'-neckhead',[swap(c,[(2,3)]) for c in S],Y,dup=False)
        run(nm+'-reversed',[c[...,::-1,:].copy() for c in S],Y,dup=False)
        run(nm+'-halfmirror',[c*([-1,1,1] if i%2 else 1) for i,c in enumerate(S)],Y,dup=False)
        run(nm+'-80mirror',[c*([-1,1,1] if i%5 else 1) for i,c in enumerate(S)],Y,dup=False)
        run(nm+'-60turn',[c*([1,-1,-1] if i%5>1 else 1) for i,c in enumerate(S)],Y,dup=False)
        run(nm+'-45mm',[c*(1000 if i%9<4 else 1) for i,c in enumerate(S)],Y,dup=False,max_rejects=1,checks={'range':'warn'})
        run(nm+'-45cm',[c*(100 if i%9<4 else 1) for i,c in enumerate(S)],Y,dup=False,max_rejects=1,checks={'range':'warn'})
        run(nm+'-lying60',[rot(c,0,60) for c in S],Y,dup=False)
        run(nm+'-tilt45',[rot(c,0,45) for c in S],Y,dup=False)
        run(nm+'-half-scale',[c*0.4 for c in S],Y,dup=False)
        # upside down but feet missing in 30%
        def cf(i,c):
            a=np.ones(c.shape[:-1],np.float32)
            if i%10<3: a[...,12:]=0
            return a
        run(nm+'-upside-30%upperbody',[c*[1,-1,-1] for c in S],Y,conf=[cf(i,c) for i,c in enumerate(S)],dup=False)
        run(nm+'-armscrossed-30%upperbody',[swap(c,[(4,8),(5,9),(6,10),(7,11)]) for c in S],Y,conf=[cf(i,c) for i,c in enumerate(S)],dup=False)
        # normalised image coords as metres [T,K,2], y up
        run(nm+'-norm2d-m',[((c[...,:2]-c[...,:2].min((0,1,2) if c.ndim==4 else (0,1)))/2.2).astype(np.float32) for c in S],Y,dup=False)
        run(nm+'-2d-in-3d',[c[...,:2] if i%3==0 else c for i,c in enumerate(S)],Y,dup=False)
